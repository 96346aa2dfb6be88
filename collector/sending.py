"""An answer onto the wire, in one write."""

import time
from email.utils import formatdate

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion10

from collector.answers import Answer

CLOSING = b"Connection: close\r\n"


class Clock:
    """The `Date` header, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        """The header's line (RFC 9110, section 6.6.1)."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._line = f"Date: {formatdate(now, usegmt=True)}\r\n".encode()
        return self._line


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
