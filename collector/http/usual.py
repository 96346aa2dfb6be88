"""The usual request: takes the bytes of a header section, gives what it asks for, or None.

What a front-end's beacon sends, straight or through a proxy, and nothing else: an endpoint's
request line of HTTP/1.1, each header once, and a body of a known and allowed length. `httptools`
reads it (llhttp, as strict as it comes). None is no refusal: the request is then read by aiohttp
(`unusual.py`), which knows the rest of HTTP/1.1.
"""

import re
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from multidict import CIMultiDict, istr

from collector.http.limits import MAX_HEADERS
from collector.http.request import Headers
from collector.http.routes import Route, Routes
from collector.request.body import MAX_BYTES
from contract.errors import Reject

_NAMES: Final = 1024  # that are remembered; anybody may send others

_LINE: Final = re.compile(rb"([A-Z]+) ([A-Za-z0-9/_-]+) HTTP/1\.1\r\n")
_DIGITS: Final = 6
_CONNECTION: Final = "connection"
_HOST: Final = "host"
_LENGTH: Final = "content-length"
# Each of them says how the rest is to be read, or what is to become of the connection.
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
_NOBODY: Final = object()  # the parser's judgement is wanted, not its words


Usual = tuple[Route, str, Headers, int]
"""What a request asks for, what stood in the place of its path's `{}`, its headers, and how many
bytes its body has."""


class UsualRequests:
    """Recognises them."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._lines = {
            f"{route.method} {route.path} HTTP/1.1\r\n".encode(): route for route in routes.exact()
        }
        self._names: dict[str, str] = {}

    def recognise(self, head: bytes) -> Usual | None:
        """
        Args:
            head: from a request's first byte to the empty line that ends its headers.
        """
        found = self._find(head[: head.index(b"\n") + 1])
        if found is None:
            return None
        try:
            HttpRequestParser(_NOBODY).feed_data(head)
        except (HttpParserError, HttpParserUpgrade):
            return None
        lines = head.decode("utf-8", "surrogateescape").split("\r\n")
        names = self._names
        values = {
            names.get(name) or self._learn(name): value.strip(" \t")
            for line in lines[1:-2]
            for name, _, value in (line.partition(":"),)
        }
        length = values.get(_LENGTH, "0")
        if (
            len(values) != len(lines) - 3  # some name came twice
            or b"\n " in head  # a line was folded
            or b"\n\t" in head
            or len(values) > MAX_HEADERS
            or _HOST not in values
            or not _UNUSUAL.isdisjoint(values)
            or (_CONNECTION in values and values[_CONNECTION].lower() != "keep-alive")
            or not (length.isascii() and length.isdecimal() and len(length) <= _DIGITS)
            or int(length) > MAX_BYTES
        ):
            return None
        route, named = found
        return route, named, CIMultiDict(values), int(length)

    def _find(self, line: bytes) -> tuple[Route, str] | None:
        route = self._lines.get(line)
        if route is not None:
            return route, ""
        parts = _LINE.fullmatch(line)
        if parts is None:
            return None
        try:
            found, named = self._routes.find(parts[1].decode(), parts[2].decode())
        except Reject:
            return None
        return (found, named) if isinstance(found, Route) else None

    def _learn(self, name: str) -> str:
        lower = istr(name.lower())
        if len(self._names) < _NAMES:
            self._names[name] = lower
        return lower
