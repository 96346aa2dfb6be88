"""Parses the usual request, which beacons send, directly or through a proxy.

It is HTTP/1.1 to one of the endpoints, has each header once, and a body of a known and allowed
length. aiohttp (`unusual.py`) reads all other requests. So this parser accepts only what every
parser reads alike: lines that end with CR and LF, names without white space, no control character
except tab.
"""

import re
from typing import Final

from collector.http.limits import MAX_HEADERS
from collector.http.routes import Route, Routes
from collector.request.body import MAX_BYTES
from collector.request.headers import OnceEach
from contract.errors import Reject

_REQUEST: Final = re.compile(rb"([A-Z]+) ([A-Za-z0-9/_-]+) HTTP/1\.1")
# RFC 9110, section 5.6.2 and 5.5.
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TEXT: Final = bytes((*b"\t", *range(0x20, 0x7F), *range(0x80, 0x100)))
_DIGITS: Final = re.compile(r"[0-9]{1,6}")
_CONNECTION: Final = "connection"
_HOST: Final = "host"
_LENGTH: Final = "content-length"
# These change how the rest is read, or what happens to the connection.
_UNUSUAL: Final = frozenset(
    (
        "expect",
        "http2-settings",
        "sec-websocket-key1",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
# Headers that recur in many requests, and have no personal data. Only their lines are cached,
# because personal data must not outlive its request.
_IMPERSONAL: Final = frozenset(
    (
        "accept",
        "accept-encoding",
        _CONNECTION,
        _LENGTH,
        "content-type",
        _HOST,
        "origin",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
    )
)
# Headers with personal data that most requests have, as browsers and proxies spell them.
_PERSONAL: Final = {
    spelling.encode(): name
    for name in ("user-agent", "x-forwarded-for", "accept-language", "referer")
    for spelling in (name, name.title())
}
# A client may send any lines. The cache is cleared when it has this many.
_CACHED: Final = 1024
_LONGEST_CACHED: Final = 128

Usual = tuple[Route, str, OnceEach, int]
"""A request's route, the text in place of its path's `{}`, its headers, and its body's length."""


class UsualRequests:
    """Recognises usual requests."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._lines: dict[bytes, tuple[Route, str]] = {}  # of paths without an id
        self._fields: dict[bytes, tuple[str, str]] = {}

    def recognise(self, head: bytes) -> Usual | None:
        """`head`: the request line and the headers, with the empty line after them."""
        lines = head.split(b"\r\n")
        found = self._lines.get(lines[0]) or self._find(lines[0])
        if found is None or len(lines) > MAX_HEADERS + 3:
            return None
        cached = self._fields.get
        headers = OnceEach()
        for line in lines[1:-2]:
            field = cached(line) or self._read(line)
            if field is None:
                return None
            name, value = field
            headers[name] = value
        if len(headers) != len(lines) - 3 or _HOST not in headers:
            return None  # a name came twice, or there is no host
        length = int(headers.get(_LENGTH, 0))
        return None if length > MAX_BYTES else (*found, headers, length)

    def _find(self, line: bytes) -> tuple[Route, str] | None:
        parts = _REQUEST.fullmatch(line)
        if parts is None:
            return None
        try:
            found, named = self._routes.find(parts[1].decode(), parts[2].decode())
        except Reject:
            return None
        if not isinstance(found, Route):
            return None
        if not named:
            self._lines[line] = found, named
        return found, named

    def _read(self, line: bytes) -> tuple[str, str] | None:
        """A header's name in lower case and its value, or None if it is not a usual header."""
        word, colon, rest = line.partition(b":")
        if not colon or rest.translate(None, _TEXT):
            return None
        value = rest.decode("utf-8", "surrogateescape").strip(" \t")
        name = _PERSONAL.get(word)
        if name is not None:
            return name, value
        if _NAME.fullmatch(word) is None:
            return None
        name = word.decode().lower()
        if name in _IMPERSONAL:
            if (name == _CONNECTION and value.lower() != "keep-alive") or (
                name == _LENGTH and _DIGITS.fullmatch(value) is None
            ):
                return None
            if len(line) <= _LONGEST_CACHED:
                if len(self._fields) >= _CACHED:
                    self._fields.clear()
                self._fields[line] = name, value
        elif name in _UNUSUAL:
            return None
        return name, value
