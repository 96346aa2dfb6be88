"""A client's connection: answers usual requests, and hands unusual ones over to aiohttp.

It answers one request at a time, so answers have the order of their requests. If a request is
unusual (see `usual.py`), aiohttp's public server protocol (`unusual.py`) gets all of its bytes, and
the connection stays with aiohttp. The limits are the same for both.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from collector.http.answering import Answering
from collector.http.answers import CLOSING, Answer, to_bytes
from collector.http.connections import Connections, Phase
from collector.http.limits import MAX_HEAD, MAX_HEADERS, MAX_LINE, headers_too_large, overload
from collector.http.routes import Request
from collector.http.usual import Usual, UsualRequests
from collector.request.body import MAX_BYTES
from contract.errors import Reject, Retry

# While a request is answered, reading stops at the size of the largest request.
_MOST_RECEIVED: Final = MAX_HEAD + MAX_BYTES
# While the client has more bytes of answers to read than this, no new request begins.
_MOST_UNREAD: Final = 16 * 1024

_END: Final = b"\r\n\r\n"
_END_BYTES: Final = len(_END)
# Matches what can be the beginning of a request. For other bytes it does not wait for more.
_BEGINNING: Final = re.compile(rb"[A-Z]+(?: [^ \r\n]*(?: [^ \r\n]*(?:\r|\r\n.*)?)?)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parts:
    """The objects that all connections share. `unusual` makes aiohttp's protocol."""

    answering: Answering
    connections: Connections
    usual: UsualRequests
    unusual: Callable[[], asyncio.Protocol]


class Connection(asyncio.Protocol):
    """A client's connection."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._transport: asyncio.Transport | None = None
        self._peer: str | None = None
        self._received = b""  # bytes of requests that have not begun
        self._usual: Usual | None = None  # the first of these requests, if its headers are complete
        self._answering = False  # a request has begun, and is not answered
        self._working = False  # the loop in `_work` runs
        self._paused = False  # we do not read from the client
        self._unread = False  # the client does not read its answers
        self._half_closed = False  # the client sends no more
        self._ending = False
        self.begun = 0

    @property
    def phase(self) -> Phase:
        if self._unread:
            return Phase.WRITING
        if self._ending:
            return Phase.ENDING
        if self._answering:
            return Phase.ANSWERING
        if self._received:
            return Phase.HEAD if self._usual is None else Phase.BODY
        return Phase.IDLE if self.begun else Phase.NEW

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = made = cast("asyncio.Transport", transport)  # uvloop's has no such class
        peer = made.get_extra_info("peername")
        self._peer = peer[0] if peer else None
        made.set_write_buffer_limits(_MOST_UNREAD)
        self._parts.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - of the interface
        self._transport = None
        self._hold(b"")
        self._parts.connections.remove(self)

    def data_received(self, data: bytes) -> None:
        if not self._ending:
            self._work(self._received + data if self._received else data)

    def eof_received(self) -> bool:
        """The client sends no more. The connection stays open for the answers that are due."""
        self._half_closed = True
        return self._answering or (self._unread and not self._ending)

    def pause_writing(self) -> None:
        self._unread = True

    def resume_writing(self) -> None:
        self._unread = False
        self._go_on()

    def _work(self, data: bytes) -> None:
        """Begins requests, one after the other, until one is incomplete or not answered yet.

        `data` begins with the first byte of a request.
        """
        self._working = True
        rest: bytes | None = data
        while rest and not self._ending:
            if self._answering or self._unread:
                self._wait(rest)
                break
            rest = self._begin(rest)
        self._working = False

    def _begin(self, data: bytes) -> bytes | None:
        """Begins a request; returns the bytes after it, or None if it could not begin."""
        usual = self._usual
        start = data.find(_END) + _END_BYTES
        if usual is None:
            if start < _END_BYTES:
                self._wait_for_headers(data)
                return None
            if _is_too_large(data, start):
                self._refuse(headers_too_large())
                return None
            usual = self._parts.usual.recognise(data[:start])
            if usual is None:
                self._hand_over(data)
                return None
        route, named, headers, length = usual
        end = start + length
        if len(data) < end:
            self._usual = usual
            self._wait(data)
            return None
        self._usual = None
        if self._received:
            self._hold(b"")
        self._answering = True
        self.begun += 1
        request = Request(headers, self._peer, data[start:end], named)
        self._parts.answering.begin(route, request, self._send)
        return data[end:]

    def _send(self, answer: Answer, lines: bytes) -> None:
        self._answering = False
        transport = self._transport
        if transport is None:
            return  # the client has gone
        last = self._parts.connections.draining
        transport.write(to_bytes(answer, lines + CLOSING if last else lines))
        if last:
            self._end()
        elif not self._working and not self._unread:
            self._go_on()

    def _go_on(self) -> None:
        """Begins requests that arrived while the last one was answered."""
        if self._answering or self._ending or self._transport is None:
            return
        data = self._received
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if data:
            self._work(data)
        if self._half_closed and not self._answering and not self._ending:
            self._end()

    def _wait_for_headers(self, data: bytes) -> None:
        lines = data.count(b"\n")
        if _is_too_large(data, len(data)):
            self._refuse(headers_too_large())
        elif (
            lines > MAX_HEADERS + 1
            or lines != data.count(b"\r\n")
            or _BEGINNING.fullmatch(data) is None
        ):
            self._hand_over(data)  # aiohttp refuses it
        else:
            self._wait(data)

    def _wait(self, data: bytes) -> None:
        self._hold(data)
        transport = self._transport
        if (
            (self._answering or self._unread)
            and len(self._received) > _MOST_RECEIVED
            and not self._paused
            and transport is not None
        ):
            self._paused = True
            transport.pause_reading()

    def _hold(self, data: bytes) -> None:
        more = len(data) - len(self._received)
        self._received = data
        if self._parts.connections.count_unfinished(more) or more <= 0:
            return
        if self._answering or self._unread:
            self.abort()  # the answer to an earlier request must come first
        else:
            self._refuse(overload())

    def _hand_over(self, data: bytes) -> None:
        """Gives the connection to aiohttp, from the first byte of the request."""
        transport = self._transport
        if transport is None:
            return
        if self._received:
            self._hold(b"")
        self._ending = True
        self._transport = None
        unusual = self._parts.unusual()
        self._parts.connections.remove(self)
        transport.set_protocol(unusual)
        unusual.connection_made(transport)
        unusual.data_received(data)
        if self._half_closed:
            unusual.eof_received()

    def _refuse(self, error: Reject | Retry) -> None:
        """Answers bytes that are not a request, and ends the connection."""
        if self._transport is None or self._ending:
            return
        answer, lines = self._parts.answering.refuse(error)
        self._transport.write(to_bytes(answer, lines + CLOSING))
        self._end()

    def _end(self) -> None:
        """Closes our direction, and ignores what the client still sends.

        If both were closed with bytes unread, the client could lose the answer (RFC 9112, section
        9.6).
        """
        self._ending = True
        if self._received:
            self._hold(b"")
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._half_closed:
            transport.close()
            return
        transport.write_eof()
        if self._paused:
            self._paused = False
            transport.resume_reading()  # until the client closes its direction


def _is_too_large(data: bytes, end: int) -> bool:
    """Whether the headers up to `end`, or one of their lines, are too large."""
    if end <= MAX_LINE:
        return False
    return end > MAX_HEAD or max(map(len, data[:end].split(b"\r\n"))) > MAX_LINE
