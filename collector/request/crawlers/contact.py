"""Finds a web or mail address in the User-Agent: crawlers name a contact, browsers do not."""

import re

_MAIL = re.compile(r"[a-z0-9]@[a-z0-9-]{1,63}\.[a-z]{2}")
# `(http://…`, `; +https://…`. QtWeb is a browser that names its maker's site.
_WEB = re.compile(r"[ (;,<+-]https?://(?!(?:www\.)?qtweb\.)")
# `(scope3.com)`; WEB.DE makes a browser. Outside of brackets (`www.uptimedoctor.com`, `+devin.ai`)
# fewer domains count.
_DOMAIN = re.compile(
    r"\((?!web\.de/)(?:[a-z0-9-]{2,63}\.){1,4}(?:com|io|org|net|ai|co|dev|app|info|eu|de|fr|uk|ru|cz|pl|nl|se|ch|it|es)[)/;]"
    r"|[ +](?!(?:docs|translate)\.google\.|ant\.com toolbar)"
    r"(?:[a-z0-9-]{2,63}\.){1,2}(?:com|io|org|ai|co|dev|gy|ly)"
    r"(?=[ ,)/]|$)"
)
# Tried before `_DOMAIN`, because it begins with a fixed character and is therefore fast.
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
