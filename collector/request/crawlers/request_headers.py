"""Crawlers and prefetches that other headers than the User-Agent show."""

from collector.request.crawlers.reason import Reason
from collector.request.headers import Headers

# Sec-Purpose is the Fetch standard's; the others are older, of Chrome, Safari and Firefox.
_PURPOSES = ("sec-purpose", "purpose", "x-purpose", "x-moz")
_AHEAD = ("prefetch", "prerender", "preview")
_BRANDS = "sec-ch-ua"
_HEADLESS = "headless"


def reason_in_headers(headers: Headers) -> Reason | None:
    """Why these headers are no person's, or None."""
    for name in _PURPOSES:
        purpose = headers.get(name)
        if purpose is not None and any(word in purpose.lower() for word in _AHEAD):
            return Reason.PREFETCH
    brands = headers.get(_BRANDS)
    if brands is not None and _HEADLESS in brands.lower():
        return Reason.HEADLESS
    return None
