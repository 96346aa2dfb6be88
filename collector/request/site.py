"""The site that a request belongs to."""

from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from contract.errors import Reject
from contract.record import SITE_MAX_BYTES
from contract.settings import SITES
from contract.site import site_name

_LONGEST = SITE_MAX_BYTES + 64  # a host with a scheme and a port
_CACHED = 1024
# The page has another origin (Fetch Metadata, section 2.3), so its site is not `Host`.
_OTHER_ORIGIN = frozenset(("cross-site", "same-site"))


class SitePolicy:
    """The sites that are counted (`SITES`)."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Each pattern is a host, `*.example.org` for the subdomains of one, or `*` for all.

        Raises:
            Misconfigured: a pattern has none of these forms.
        """
        named = [pattern for pattern in patterns if pattern != "*"]
        self.allows_any = len(named) < len(patterns)
        self._hosts = frozenset(_known_host(name) for name in named if not name.startswith("*."))
        self._suffixes = tuple(
            "." + _known_host(name[2:]) for name in named if name.startswith("*.")
        )
        # Nearly all requests have the same few, but clients may send any.
        self._site_of_origin = lru_cache(_CACHED)(
            lambda origin: self._if_allowed(host_of_origin(origin))
        )
        self._site_of_host = lru_cache(_CACHED)(lambda host: self._if_allowed(site_name(host)))

    def names(self, site: str) -> bool:
        """Whether SITES has this site, or a pattern that matches it."""
        return site in self._hosts or site.endswith(self._suffixes)

    def allows(self, site: str) -> bool:
        return self.allows_any or self.names(site)

    def site_of(
        self,
        origin: str | None,
        forwarded_host: str | None,
        host: str | None,
        fetch_site: str | None = None,
    ) -> str:
        """The request's site: the host of `Origin`, else of `X-Forwarded-Host`, else `Host`.

        Args:
            origin: the `Origin` header.
            forwarded_host: `X-Forwarded-Host`, if a trusted proxy sent it.
            host: the `Host` header.
            fetch_site: `Sec-Fetch-Site`: whether the page has the collector's origin.

        Raises:
            Reject: 403, there is no site, it is not in `SITES`, or the page has another origin and
                does not say which.
        """
        if origin and origin != "null":
            site = self._site_of_origin(origin) if len(origin) <= _LONGEST else None
        elif fetch_site in _OTHER_ORIGIN:
            # A sandboxed frame, a file, or a page that hides its origin. It is not on this host.
            raise Reject(403, "origin", "The page does not say on which site it is (Origin).")
        else:
            if forwarded_host:
                # If several proxies append their values, the first one is the browser's.
                host = forwarded_host.partition(",")[0]
            site = self._site_of_host(host) if host and len(host) <= _LONGEST else None
        if site is None:
            raise Reject(403, "site", "This site is not counted here.")
        return site

    def allows_origin(self, origin: str) -> bool:
        """Whether this `Origin` names one of `SITES`."""
        return len(origin) <= _LONGEST and self._site_of_origin(origin) is not None

    def _if_allowed(self, host: str | None) -> str | None:
        return host if host is not None and self.allows(host) else None


def host_of_origin(origin: str) -> str | None:
    """The host of an `Origin` header, in lower case and without its port; None if it has none."""
    try:
        return site_name(urlsplit(origin).netloc)
    except ValueError:
        return None


def _known_host(text: str) -> str:
    host = site_name(text)
    if host is None:
        raise SITES.wrong(f"{text!r} is not a host name")
    return host
