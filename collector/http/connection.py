"""A client's connection: receives its bytes, answers usual requests, hands over unusual ones.

One request at a time: the next one begins when the one before is answered, so answers have the
order of their requests. An unusual request (see `usual.py`) is handed to aiohttp's public server
protocol (`unusual.py`), with all bytes since its first one and before anything of it was answered.
The connection then stays with aiohttp. The limits (lines, headers, unfinished requests, unread
answers) are the same for both.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Final, cast

from collector.http.answering import Answering
from collector.http.answers import CLOSING, Answer, to_bytes
from collector.http.connections import Connections, Standing
from collector.http.limits import MAX_HEAD, MAX_HEADERS, MAX_LINE, TOO_LARGE
from collector.http.request import Request
from collector.http.usual import Usual, UsualRequests
from collector.request.body import MAX_BYTES
from contract.errors import Reject, Retry

# No more is read than one unfinished request may have.
_MOST_HELD: Final = MAX_HEAD + MAX_BYTES
# If more answers than this wait for the client, no new request begins until the client has read.
_MOST_UNREAD: Final = 16 * 1024

_END: Final = b"\r\n\r\n"
_END_BYTES: Final = len(_END)
# Whether the bytes so far can be the beginning of a request; if not, it does not wait for the rest.
_BEGINNING: Final = re.compile(rb"[A-Z]+(?: [^ \r\n]*(?: [^ \r\n]*(?:\r|\r\n.*)?)?)?", re.DOTALL)
_BARE: Final = re.compile(rb"(?<!\r)\n")


class Parts:
    """The objects that all connections share."""

    def __init__(
        self,
        answering: Answering,
        connections: Connections,
        usual: UsualRequests,
        hand_over: Callable[[], asyncio.Protocol],
    ) -> None:
        """`hand_over`: makes the protocol that reads unusual requests."""
        self.answering = answering
        self.connections = connections
        self.usual = usual
        self.hand_over = hand_over


class Connection(asyncio.Protocol):
    """A client's connection."""

    __slots__ = (
        "_answering",
        "_ending",
        "_half_closed",
        "_parts",
        "_paused",
        "_peer",
        "_received",
        "_transport",
        "_unread",
        "_usual",
        "_working",
        "turns",
    )

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._transport: asyncio.Transport | None = None
        self._peer: str | None = None
        self._received = b""  # what is not begun yet
        self._usual: Usual | None = None  # what it begins with, once its headers are there
        self._answering = False  # a request is under way
        self._working = False  # the loop of `_work` runs
        self._paused = False  # nothing is read
        self._unread = False  # the client does not read
        self._half_closed = False  # the client sends no more
        self._ending = False
        self.turns = 0

    @property
    def standing(self) -> Standing:
        """Its phase."""
        if self._unread:
            return Standing.WRITING
        if self._ending:
            return Standing.ENDING
        if self._answering:
            return Standing.ANSWERING
        if self._received:
            return Standing.HEAD if self._usual is None else Standing.BODY
        return Standing.IDLE if self.turns else Standing.NEW

    def cut(self) -> None:
        """Closes it at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = made = cast("asyncio.Transport", transport)  # uvloop's is none by class
        peer = made.get_extra_info("peername")
        self._peer = peer[0] if peer else None
        made.set_write_buffer_limits(_MOST_UNREAD)
        self._parts.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface's
        self._transport = None
        self._hold(b"")
        self._parts.connections.remove(self)

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        seen = len(self._received)
        if seen:
            data = self._received + data
        if self._answering or self._unread:
            self._wait(data)
        else:
            self._work(data, seen)

    def eof_received(self) -> bool:
        """The client sends no more; its requests are still answered."""
        self._half_closed = True
        return self._answering or (self._unread and not self._ending)

    def pause_writing(self) -> None:
        self._unread = True

    def resume_writing(self) -> None:
        self._unread = False
        self._go_on()

    def _work(self, data: bytes, seen: int = 0) -> None:
        """Begins one request after the other, as far as they are complete and answered.

        Args:
            data: all bytes since the first byte of a request.
            seen: how many of them were here before, and were not a complete request.
        """
        self._working = True
        rest: bytes | None = data
        while rest:
            rest = self._begin(rest, seen)
            seen = 0
            if rest and (self._answering or self._unread):
                self._wait(rest)
                break
            if self._ending:
                break
        self._working = False

    def _begin(self, data: bytes, seen: int) -> bytes | None:
        """Begins a request; returns the bytes after it. None: there is no more to do now."""
        usual = self._usual
        start = data.find(_END, max(seen - _END_BYTES, 0) if usual is None else 0) + _END_BYTES
        if usual is None:
            if start < _END_BYTES:
                self._wait_for_headers(data, seen)
                return None
            if _is_too_large(data, start):
                self._refuse(TOO_LARGE)
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
        self.turns += 1
        request = Request(headers, self._peer, data[start:end], named)
        self._parts.answering.begin(route, request, self._send)
        return data[end:]

    def _send(self, answer: Answer, lines: bytes) -> None:
        """Sends the answer to the current request."""
        self._answering = False
        transport = self._transport
        if transport is None:
            return  # the client has gone
        last = self._parts.connections.leaving
        transport.write(to_bytes(answer, lines + CLOSING if last else lines))
        if last:
            self._end()
        elif not self._working and not self._unread:
            self._go_on()

    def _go_on(self) -> None:
        """Begins what has come meanwhile."""
        if self._answering or self._ending or self._transport is None:
            return
        data = self._received
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if data:
            self._hold(b"")
            self._work(data)
        if self._half_closed and not self._answering and not self._ending:
            self._end()

    def _wait_for_headers(self, data: bytes, seen: int) -> None:
        first_line_is_new = data.find(b"\r\n", 0, seen) < 0
        if _is_too_large(data, len(data)):
            self._refuse(TOO_LARGE)
        elif (
            (first_line_is_new and _BEGINNING.fullmatch(data) is None)
            or _BARE.search(data, max(seen - 1, 0)) is not None
            or data.count(b"\n") > MAX_HEADERS + 1
        ):
            self._hand_over(data)  # aiohttp refuses it
        else:
            self._wait(data)

    def _wait(self, data: bytes) -> None:
        """Holds what can't be begun yet, within bounds."""
        self._hold(data)
        transport = self._transport
        if (
            (self._answering or self._unread)
            and len(self._received) > _MOST_HELD
            and not self._paused
            and transport is not None
        ):
            self._paused = True
            transport.pause_reading()

    def _hold(self, data: bytes) -> None:
        more = len(data) - len(self._received)
        self._received = data
        if self._parts.connections.hold(more) or more <= 0:
            return
        if self._answering or self._unread:
            self.cut()  # another answer is to come first
        else:
            self._refuse(Retry("overload", "too many requests are incomplete"))

    def _hand_over(self, data: bytes) -> None:
        """Gives the connection to aiohttp, with all bytes since the first one of the request."""
        transport = self._transport
        if transport is None:
            return
        if self._received:
            self._hold(b"")
        self._ending = True
        self._transport = None
        other = self._parts.hand_over()
        self._parts.connections.remove(self)
        transport.set_protocol(other)
        other.connection_made(transport)
        other.data_received(data)
        if self._half_closed:
            other.eof_received()

    def _refuse(self, error: Reject | Retry) -> None:
        """Answers what can't be a request, and ends the connection."""
        if self._transport is None or self._ending:
            return
        answer, lines = self._parts.answering.refuse(error)
        self._transport.write(to_bytes(answer, lines + CLOSING))
        self._end()

    def _end(self) -> None:
        """Says that no more comes; what the client still sends is not looked at.

        To close at once, with bytes unread, would take the answer away from it (RFC 9112, section
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
            transport.resume_reading()  # until the client's end


def _is_too_large(data: bytes, end: int) -> bool:
    """Whether the lines up to `end` are more than headers may be."""
    if end <= MAX_LINE:
        return False
    return end > MAX_HEAD or max(map(len, data[:end].split(b"\r\n"))) > MAX_LINE
