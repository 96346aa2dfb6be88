"""A contact in the User-Agent, a web or mail address: crawlers name one, browsers don't."""

import re

_MAIL = re.compile(r"[a-z0-9]@[a-z0-9-]{1,63}\.[a-z]{2}")
# `(http://…`, `; +https://…`. QtWeb, a browser, names its maker's site.
_WEB = re.compile(r"[ (;,<+-]https?://(?!(?:www\.)?qtweb\.)")
# `(scope3.com)`; WEB.DE gives a browser to its readers. Without brackets (`www.uptimedoctor.com`,
# `+devin.ai`) fewer are looked for.
_DOMAIN = re.compile(
    r"\((?!web\.de/)(?:[a-z0-9-]{2,63}\.){1,4}(?:com|io|org|net|ai|co|dev|app|info|eu|de|fr|uk|ru|cz|pl|nl|se|ch|it|es)[)/;]"
    r"|[ +](?!(?:docs|translate)\.google\.|ant\.com toolbar)"
    r"(?:[a-z0-9-]{2,63}\.){1,2}(?:com|io|org|ai|co|dev|gy|ly)"
    r"(?=[ ,)/]|$)"
)
# This is fast, because it begins with one certain character. Only if it matches is `_DOMAIN` tried.
_DOMAIN_ENDS = re.compile(
    r"\.(?:com|io|org|net|ai|co|dev|app|info|eu|de|fr|uk|ru|cz|pl|nl|se|ch|it|es|gy|ly)"
    r"(?:[ ,)/;]|$)"
)


def gives_contact(text: str) -> bool:
    """Whether a User-Agent, in lower case, names a contact."""
    return (
        ("@" in text and _MAIL.search(text) is not None)
        or ("://" in text and _WEB.search(text) is not None)
        or (_DOMAIN_ENDS.search(text) is not None and _DOMAIN.search(text) is not None)
    )
