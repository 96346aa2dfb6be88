"""What headers other than the User-Agent tell."""

from collections.abc import Mapping

from multidict import istr

from collector.request.crawlers.reason import Reason

# Sec-Purpose is the Fetch standard's; the others are older, of Chrome, Safari and Firefox.
# `istr` spares the look-ups, which come with each request, the folding of case.
_PURPOSES = tuple(map(istr, ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")))
_AHEAD = ("prefetch", "prerender", "preview")
_BRANDS = istr("Sec-CH-UA")
_HEADLESS = "headless"


def reason_in_headers(headers: Mapping[str, str]) -> Reason | None:
    """Why these headers are no person's, or None. Their names in any case."""
    for name in _PURPOSES:
        purpose = headers.get(name)
        if purpose is not None and any(word in purpose.lower() for word in _AHEAD):
            return Reason.PREFETCH
    brands = headers.get(_BRANDS)
    if brands is not None and _HEADLESS in brands.lower():
        return Reason.HEADLESS
    return None
