"""Recognises prefetches and headless browsers by headers other than the User-Agent."""

from collector.request.crawlers.reason import Reason
from collector.request.headers import Headers

# Sec-Purpose is from the Fetch standard; the older ones are from Chrome, Safari and Firefox.
_PURPOSES = ("sec-purpose", "purpose", "x-purpose", "x-moz")
_IN_ADVANCE = ("prefetch", "prerender", "preview")


def reason_in_headers(headers: Headers) -> Reason | None:
    """Why these headers are not a person's, or None."""
    for name in _PURPOSES:
        purpose = headers.get(name)
        if purpose is not None and any(word in purpose.lower() for word in _IN_ADVANCE):
            return Reason.PREFETCH
    brands = headers.get("sec-ch-ua")
    if brands is not None and "headless" in brands.lower():
        return Reason.HEADLESS
    return None
