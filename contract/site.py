"""The rule for a site's name, for requests, `SITES` and imports."""

import re

import idna

from contract.record import SITE_MAX_BYTES

# A host name, an IPv4 address, or an IPv6 address in brackets, with an optional port.
_HOST = re.compile(r"(?P<host>[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])\.?(?::\d*)?")
_PORT = re.compile(r":\d*$", re.ASCII)


def site_name(text: str) -> str | None:
    """A text as a host name, in lower case and ASCII, without its port and final dot; None: it is
    not a host name.
    """
    text = text.strip().lower()
    if not text.isascii():
        # A browser sends an internationalised name in its ASCII form (UTS 46). SITES and imports
        # may have it as people write it.
        port = _PORT.search(text)
        try:
            name = text[: port.start()] if port else text
            text = idna.encode(name, uts46=True).decode("ascii")
        except UnicodeError:  # idna.IDNAError is one
            return None
    match = _HOST.fullmatch(text)
    if match is None or len(match["host"]) > SITE_MAX_BYTES:
        return None
    return match["host"]
