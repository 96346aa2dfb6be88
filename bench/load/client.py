"""A small HTTP/1.1 client: connections that are kept alive, one request at a time on each.

Own code: aiohttp's client costs more CPU than the collector, and does not tell whether a request
was sent. This one reads only what the collector answers: RFC 9112 with Content-Length, or a status
without a body. It has no TLS, no chunks and no redirects.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 15.0  # longer than the collector waits for Redis
_CONNECT_SECONDS = 5.0
_PAUSE_SECONDS = 0.1
_NO_BODY = (204, 304)


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

    url: str  # of the collector: http://host:port
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
        address = urlsplit(self.url)
        while self._streams is None:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    self._streams = await asyncio.open_connection(
                        address.hostname, address.port or 80
                    )
            except OSError as error:  # a TimeoutError, too
                if not self.keep_going:
                    why = str(error) or type(error).__name__
                    raise Unreachable(f"no connection to {address.netloc}: {why}") from None
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


@contextmanager
def connect(
    url: str,
    connections: int,
    timeout_seconds: float = TIMEOUT_SECONDS,
    *,
    keep_going: bool = False,
) -> Iterator[list[Connection]]:
    """Several connections, which are closed at the end. Each may have one user at a time."""
    made = [Connection(url, timeout_seconds, keep_going) for _ in range(connections)]
    try:
        yield made
    finally:
        for connection in made:
            connection.close()
