"""A small HTTP/1.1 client: connections that are kept alive, one request at a time on each.

Own code: aiohttp's client costs more CPU than the collector, and does not tell whether a request
was sent. This one reads only what the collector answers: RFC 9112 with Content-Length, or a status
without a body. It has no TLS, no chunks and no redirects.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from contract.errors import Misconfigured

TIMEOUT_SECONDS = 15.0  # longer than the collector waits for Redis
_CONNECT_SECONDS = 5.0
_PAUSE_SECONDS = 0.1
_NO_BODY = (204, 304)
_EXAMPLE = "--url http://127.0.0.1:8000"


class NoAnswer(Exception):
    """The connection ended, or the time ran out, after sending: the request may have arrived."""


class Unreachable(Exception):
    """No connection could be made: nothing was sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of the collector."""

    status: int
    body: bytes
    closes: bool = False  # `Connection: close`: the connection takes no other request


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


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """The next response on a connection.

    Raises:
        ValueError: it is no HTTP/1.x response with a known length.
        asyncio.IncompleteReadError: the connection ended before the response was complete.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1."):
        raise ValueError("not HTTP/1.x")
    status = int(head[9:12])
    closes = b"\r\nconnection: close\r\n" in head
    if status in _NO_BODY:
        return Answer(status, b"", closes)
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if not found:
        raise ValueError("a response without Content-Length")
    length = int(rest.partition(b"\r\n")[0])
    return Answer(status, await reader.readexactly(length), closes)


@dataclass
class Connection:
    """One connection: made when it is needed, and made again when it has ended."""

    address: Address
    timeout_seconds: float = TIMEOUT_SECONDS  # how long an answer may take
    keep_going: bool = False  # tries to connect until it can, as while the collector restarts
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is connected, as far as this side knows."""
        if self._streams is None:
            return False
        reader, writer = self._streams
        return not (reader.at_eof() or writer.is_closing())

    async def ready(self) -> None:
        """Connects, if there is no connection.

        Raises:
            Unreachable: no connection could be made; with `keep_going`, never.
        """
        if self.is_open:
            return
        self.close()
        while self._streams is None:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    self._streams = await asyncio.open_connection(
                        self.address.host, self.address.port
                    )
            except OSError as error:  # a TimeoutError, too
                if not self.keep_going:
                    why = str(error) or type(error).__name__
                    raise Unreachable(f"no connection to {self.address}: {why}") from None
                await asyncio.sleep(_PAUSE_SECONDS)

    async def exchange(self, request: bytes) -> Answer:
        """Sends a request, once, on a connection that is `ready`; its answer.

        Raises:
            NoAnswer: the connection ended, or the time ran out, before the answer.
        """
        if self._streams is None:
            raise NoAnswer("there is no connection")
        reader, writer = self._streams
        answer = None
        try:
            async with asyncio.timeout(self.timeout_seconds):
                writer.write(request)
                answer = await read_answer(reader)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise NoAnswer(str(error) or type(error).__name__) from error
        finally:
            # A late answer would be read as the next request's.
            if answer is None or answer.closes:
                self.close()
        return answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


class Client:
    """Several connections to one address; use it as a context."""

    def __init__(
        self,
        address: Address,
        connections: int,
        timeout_seconds: float = TIMEOUT_SECONDS,
        *,
        keep_going: bool = False,
    ) -> None:
        """`timeout_seconds` and `keep_going` as in `Connection`."""
        self.address = address
        self._connections = [
            Connection(address, timeout_seconds, keep_going) for _ in range(connections)
        ]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()

    def __iter__(self) -> Iterator[Connection]:
        """The connections. Each may have one user at a time."""
        return iter(self._connections)
