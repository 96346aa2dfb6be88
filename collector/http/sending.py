"""An answer onto the wire, in one write."""

from collections.abc import Callable
from email.utils import formatdate

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion10

from collector.http import answers
from collector.http.answers import Answer
from contract.calendar import SECOND_US
from runtime.clock import Clock

_ORIGINS = 1024
CLOSING = b"Connection: close\r\n"


class CommonHeaders:
    """The header lines that every answer has, made once a second for each origin that asks."""

    def __init__(self, clock: Clock, allows_origin: Callable[[str], bool]) -> None:
        """`allows_origin`: whether a page of this origin may read the answers."""
        self._clock = clock
        self._allows_origin = allows_origin
        self._second = 0
        self._lines: dict[str | None, bytes] = {}

    def lines(self, origin: str | None) -> bytes:
        """`Date` (RFC 9110, section 6.6.1), and where there is an origin what it may read."""
        now = self._clock() // SECOND_US
        if now != self._second or len(self._lines) > _ORIGINS:
            self._second = now
            self._lines.clear()
        lines = self._lines.get(origin)
        if lines is None:
            lines = f"Date: {formatdate(now, usegmt=True)}\r\n".encode()
            if origin is not None and self._allows_origin(origin):
                lines += answers.allow_origin(origin)
            self._lines[origin] = lines
        return lines


def to_bytes(answer: Answer, headers: bytes) -> bytes:
    """An answer as it is sent, with more header lines."""
    return b"%b%b\r\n%b" % (answer.head, headers, answer.body)


class Sending:
    """What aiohttp asks of a response, and no more: it is prepared, written, and keeps the
    connection or not.

    In the place of `web.Response`, whose headers are put into a dictionary, completed, checked and
    put together for each request.
    """

    __slots__ = ("_data", "_request", "keep_alive")

    def __init__(
        self, request: web.BaseRequest, answer: Answer, headers: bytes, *, keep_alive: bool
    ) -> None:
        """
        Args:
            request: to which it is the answer.
            answer: is not changed.
            headers: more lines.
            keep_alive: whether the connection may have another request.
        """
        self._request = request
        self.keep_alive = keep_alive
        if not keep_alive:
            headers += CLOSING
        elif request.version == HttpVersion10:
            headers += b"Connection: keep-alive\r\n"
        if request.method == hdrs.METH_HEAD:
            answer = Answer(answer.status, answer.head)
        self._data = to_bytes(answer, headers)

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to do."""

    async def write_eof(self) -> None:
        """Writes it; waits where the client does not read.

        Raises:
            ConnectionError: the client has gone.
        """
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        transport.write(self._data)
        await self._request.writer.drain()
