"""The usual request: takes the bytes of a header section, gives what it asks for, or None.

What a front-end's beacon sends, straight or through a proxy, and nothing else: an endpoint's
request line of HTTP/1.1, each header once, and a body of a known and allowed length. `httptools`
reads it (llhttp, as strict as it comes). None is no refusal: the request is then read by aiohttp
(`unusual.py`), which knows the rest of HTTP/1.1.
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from multidict import CIMultiDict, istr

from collector.http.limits import MAX_HEADERS
from collector.http.request import Headers
from collector.http.routes import Route, Routes
from collector.request.body import MAX_BYTES
from contract.errors import Reject

_NAMES: Final = 1024  # that are remembered; anybody may send others

_LINE: Final = re.compile(rb"([A-Z]+) ([A-Za-z0-9/_-]+) HTTP/1\.1\r\n")
_DIGITS: Final = re.compile(r"[0-9]{1,6}")
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


class Usual(NamedTuple):
    """A request but for its body, of `length` bytes."""

    route: Route
    named: str
    headers: Headers
    length: int


class _Sink:
    """What the parser calls."""

    __slots__ = ("on_header",)

    def __init__(self, on_header: Callable[[bytes, bytes], None]) -> None:
        self.on_header = on_header


class UsualRequests:
    """Recognises them."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._lines = {
            f"{route.method} {route.path} HTTP/1.1\r\n".encode(): route for route in routes.exact()
        }
        self._names: dict[bytes, str] = {}

    def recognise(self, head: bytes) -> Usual | None:
        """
        Args:
            head: from a request's first byte to the empty line that ends its headers.
        """
        found = self._find(head[: head.index(b"\n") + 1])
        # llhttp leaves white space behind a value, which is none of it (RFC 9110, section 5.5).
        if found is None or b" \r\n" in head or b"\t\r\n" in head:
            return None
        fields: dict[bytes, bytes] = {}
        try:
            HttpRequestParser(_Sink(fields.__setitem__)).feed_data(head)
        except (HttpParserError, HttpParserUpgrade):
            return None
        names = self._names
        values = {
            names.get(name) or self._learn(name): value.decode("utf-8", "surrogateescape")
            for name, value in fields.items()
        }
        lines = head.count(b"\n") - 2  # all but the first and the last, which is empty
        length = values.get(_LENGTH, "0")
        if (
            len(values) != lines  # some name came twice, or a line was folded
            or lines > MAX_HEADERS
            or _HOST not in values
            or not _UNUSUAL.isdisjoint(values)
            or values.get(_CONNECTION, "keep-alive").lower() != "keep-alive"
            or _DIGITS.fullmatch(length) is None
            or int(length) > MAX_BYTES
        ):
            return None
        return Usual(*found, CIMultiDict(values), int(length))

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

    def _learn(self, name: bytes) -> str:
        lower = istr(name.decode("latin-1").lower())
        if len(self._names) < _NAMES:
            self._names[name] = lower
        return lower
