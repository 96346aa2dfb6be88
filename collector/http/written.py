"""Wraps an `Answer` as a response for aiohttp."""

from collections.abc import Callable

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion10

from collector.http.answers import CLOSING, Answer, to_bytes


class Written(web.StreamResponse):
    """An `Answer` as a response for aiohttp, which writes its bytes unchanged."""

    def __init__(
        self,
        request: web.BaseRequest,
        answer: Answer,
        lines: bytes,
        was_written: Callable[[], None],
        *,
        keep_alive: bool,
    ) -> None:
        """
        Args:
            request: the request that is answered.
            answer: the answer; it is not changed.
            lines: more header lines.
            was_written: called when the answer is on its way.
            keep_alive: whether the connection may have another request.
        """
        super().__init__(status=answer.status)
        self._asked = request
        if not keep_alive:
            self.force_close()
            lines += CLOSING
        elif request.version == HttpVersion10:
            lines += b"Connection: keep-alive\r\n"
        if request.method == hdrs.METH_HEAD:
            answer = Answer(answer.status, answer.head)
        self._bytes = to_bytes(answer, lines)
        self._goes_on = keep_alive
        self._was_written = was_written

    @property
    def keep_alive(self) -> bool:
        return self._goes_on

    async def prepare(self, request: web.BaseRequest) -> None:
        """Does nothing: the answer is complete."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Writes the answer; waits while the client does not read.

        Raises:
            ConnectionError: the client has gone.
        """
        transport = self._asked.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        transport.write(self._bytes + data)
        await self._asked.writer.drain()
        self._was_written()
