"""Step 2, its second half: how fast sites come in that nobody has named.

With `SITES=*` the site is what a caller writes, and each new one is a row in every report from then
on. So a collector lets only some begin a minute, and says so. Who is refused may try again: a site
that is real comes in later, and one that is known, or named in SITES, is never refused.
"""

import time
from collections.abc import Callable

import structlog

from collector.request.site import SitePolicy
from contract.errors import Retry
from contract.metrics import CollectorMetrics

# A collector that starts knows none: as many as this many minutes' come in at once.
BURST_MINUTES = 10
_REMEMBERED = 16_384
_WARNED_SECONDS = 600.0
_BETWEEN_WARNINGS_SECONDS = 3600.0
_ADVICE = (
    "more new sites come than NEW_SITES_PER_MINUTE lets in, and are answered 503: name yours in "
    "SITES, which are then never refused"
)

log = structlog.get_logger()


class NewSites:
    """The sites that this process has seen lately, and when it may see another one."""

    def __init__(
        self,
        sites: SitePolicy,
        per_minute: int,
        metrics: CollectorMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            sites: those that are named are not bounded.
            per_minute: how many others may begin in a minute, and ten times as many at once.
            metrics: where it is counted how many did.
            clock: seconds, from whenever.
        """
        self._sites = sites
        self._per_second = per_minute / 60
        self._most = float(BURST_MINUTES * per_minute)
        self._left = self._most
        self._counter = metrics.new_sites
        self._clock = clock
        self._filled_at = clock()
        self._refused_at = self._warned_at = float("-inf")
        # Those that are not asked for go first: at most twice `_REMEMBERED`.
        self._recent: set[str] = set()
        self._earlier: set[str] = set()

    def admit(self, site: str) -> None:
        """Takes note of a site that is about to be stored.

        Raises:
            Retry: too many new ones have come.
        """
        if site not in self._recent:
            self._admit_another(site)

    def warnings(self) -> dict[str, str | None]:
        """Whether any was refused in the last ten minutes, for `/readyz`."""
        lately = self._clock() - self._refused_at < _WARNED_SECONDS
        return {"new_sites": _ADVICE if lately else None}

    def _admit_another(self, site: str) -> None:
        if site not in self._earlier and not self._sites.names(site):
            self._spend(self._clock())
            self._counter.inc()
        if len(self._recent) >= _REMEMBERED:
            self._earlier, self._recent = self._recent, set()
        self._recent.add(site)

    def _spend(self, now: float) -> None:
        self._left = min(self._most, self._left + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._left < 1:
            self._refused_at = now
            if now - self._warned_at >= _BETWEEN_WARNINGS_SECONDS:
                self._warned_at = now
                log.warning(_ADVICE)
            raise Retry("new_sites", "too many sites that nobody has named came at once")
        self._left -= 1
