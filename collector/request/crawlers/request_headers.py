"""Crawlers and prefetches that headers other than the User-Agent reveal."""

from collector.request.crawlers.reason import Reason
from collector.request.headers import Headers

# Sec-Purpose is from the Fetch standard; the older ones are from Chrome, Safari and Firefox.
_PURPOSES = ("sec-purpose", "purpose", "x-purpose", "x-moz")
_AHEAD = ("prefetch", "prerender", "preview")
_BRANDS = "sec-ch-ua"
_HEADLESS = "headless"


def reason_in_headers(headers: Headers) -> Reason | None:
    """Why these headers are not from a person's visit, or None."""
    for name in _PURPOSES:
        purpose = headers.get(name)
        if purpose is not None and any(word in purpose.lower() for word in _AHEAD):
            return Reason.PREFETCH
    brands = headers.get(_BRANDS)
    if brands is not None and _HEADLESS in brands.lower():
        return Reason.HEADLESS
    return None
