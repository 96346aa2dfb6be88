"""A minimal HTTP/1.1 client: keep-alive connections, one request at a time on each.

Own code, because what measures must be cheaper than what it measures: aiohttp's client costs more
than the collector does. It knows what the collector sends (RFC 9112 with Content-Length, or a
status that has no body) and no more: no TLS, no chunks, no redirects.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self, cast
from urllib.parse import urlsplit

from contract.errors import Misconfigured

TIMEOUT_SECONDS = 15.0  # longer than the collector waits for Redis
_CONNECT_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
_NO_BODY = (204, 304)
_EXAMPLE = "--url http://127.0.0.1:8000"


class NoAnswer(Exception):
    """The connection ended, or the time ran out, after sending: the request may have arrived."""


class Unreachable(Exception):
    """No connection could be made: nothing was sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    closes: bool = False  # `Connection: close`: nothing more may be sent on it


@dataclass(frozen=True, slots=True)
class Address:
    """Where the collector listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> "Address":
        """From `http://host:port`.

        Raises:
            Misconfigured: it is anything else.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if host is None or parts.scheme != "http" or parts.path.strip("/") or parts.query:
            raise Misconfigured("--url", f"{url!r} is not http://host:port", _EXAMPLE)
        return cls(host, port or 80)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_answer(received: bytes | bytearray) -> tuple[Answer, int] | None:
    """The first answer in what was received, and where it ends; None while it is not complete.

    Raises:
        ValueError: it is no answer of HTTP/1.x with a known length.
    """
    head_end = received.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    if received[:7] != b"HTTP/1.":
        raise ValueError("not HTTP/1.x")
    status = int(received[9:12])
    body_start = head_end + 4
    head = bytes(received[: head_end + 2]).lower()
    closes = b"\r\nconnection: close\r\n" in head
    if status in _NO_BODY:
        return Answer(status, b"", closes), body_start
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise ValueError("an answer without Content-Length")
    length = int(head[at + 17 : head.index(b"\r\n", at + 17)])
    end = body_start + length
    if len(received) < end:
        return None
    return Answer(status, bytes(received[body_start:end]), closes), end


class Connection:
    """One connection, made when it is needed and made anew when it has ended."""

    def __init__(
        self, address: Address, timeout_seconds: float = TIMEOUT_SECONDS, *, keep_going: bool
    ) -> None:
        """
        Args:
            address: the collector's.
            timeout_seconds: how long an answer may take; it is looked at by `Client`, if seldom.
            keep_going: a connection that can't be made is tried again for as long as it takes, as
                when the collector is being restarted; else that is `Unreachable`.
        """
        self._address = address
        self._timeout = timeout_seconds
        self._keep_going = keep_going
        self._wire: _Wire | None = None

    async def ready(self) -> None:
        """Connects, if there is no connection.

        Raises:
            Unreachable: no connection could be made; with `keep_going`, never.
        """
        if self._wire is None or self._wire.closed:
            self._wire = await self._connect()

    async def exchange(self, request: bytes) -> Answer:
        """Sends a request on a connection that is `ready`, and gives its answer. Never sent twice.

        Raises:
            NoAnswer: the connection ended, or the time ran out, before the answer.
        """
        if self._wire is None:
            raise NoAnswer("there is no connection")
        return await self._wire.exchange(request, self._timeout)

    def expire(self, now: float) -> None:
        """Gives up what was sent too long ago. `now` is in the loop's time."""
        if self._wire is not None:
            self._wire.expire(now)

    def close(self) -> None:
        if self._wire is not None:
            self._wire.abort("closed")
            self._wire = None

    async def _connect(self) -> "_Wire":
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    _, wire = await loop.create_connection(
                        _Wire, self._address.host, self._address.port
                    )
                    return wire
            except (OSError, TimeoutError) as error:
                if not self._keep_going:
                    why = str(error) or type(error).__name__
                    raise Unreachable(f"no connection to {self._address}: {why}") from None
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


class Client:
    """Connections that share their limits; use it as a context."""

    def __init__(
        self,
        address: Address,
        connections: int,
        timeout_seconds: float = TIMEOUT_SECONDS,
        *,
        keep_going: bool = False,
    ) -> None:
        """
        Args:
            address: the collector's.
            connections: how many.
            timeout_seconds: how long an answer may take.
            keep_going: as in `Connection`.
        """
        self._connections = [
            Connection(address, timeout_seconds, keep_going=keep_going) for _ in range(connections)
        ]
        self._timeout = timeout_seconds
        self._sweeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._sweeper = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in self._connections:
            connection.close()

    def __iter__(self) -> Iterator[Connection]:
        """The connections: whoever takes one uses it alone."""
        return iter(self._connections)

    async def _sweep(self) -> None:
        # One look at all of them costs less than a timer a request.
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(self._timeout / 4, 0.5))
            now = loop.time()
            for connection in self._connections:
                connection.expire(now)


class _Wire(asyncio.Protocol):
    """The socket's side of a connection."""

    def __init__(self) -> None:
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[Answer] | None = None
        self._deadline = 0.0
        self._loop = asyncio.get_running_loop()

    async def exchange(self, request: bytes, timeout_seconds: float) -> Answer:
        if self.closed or self._transport is None:
            raise NoAnswer("the connection has ended")
        self._answer = self._loop.create_future()
        self._deadline = self._loop.time() + timeout_seconds
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            if self._answer.cancelled():
                self.abort("given up")  # its answer would be taken for the next one's
            self._answer = None

    def expire(self, now: float) -> None:
        if self._answer is not None and now > self._deadline:
            self.abort("no answer in time")

    def abort(self, why: str) -> None:
        self._ended(why)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        if self._received:
            self._received += data
            data = bytes(self._received)
        try:
            parsed = parse_answer(data)
        except ValueError as error:
            self.abort(f"what came is no answer: {error}")
            return
        if parsed is None:
            if not self._received:
                self._received += data
            return
        answer, end = parsed
        self._received.clear()
        if self._answer is None or len(data) != end:
            self.abort("more came than was asked for")
        elif not self._answer.done():
            self._answer.set_result(answer)
            if answer.closes:
                self.abort("the collector asked for no more")

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended("the connection ended" if exc is None else f"the connection ended: {exc}")

    def _ended(self, why: str) -> None:
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswer(why))
