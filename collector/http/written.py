"""An answer of ours as aiohttp's response."""

from collections.abc import Callable

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion10

from collector.http.answers import CLOSING, Answer, to_bytes


class Written(web.StreamResponse):
    """Writes the bytes of an `Answer` unchanged."""

    def __init__(
        self,
        request: web.BaseRequest,
        answer: Answer,
        lines: bytes,
        was_written: Callable[[], None],
        *,
        keep_alive: bool,
    ) -> None:
        """`lines` are more header lines. `was_written` is called when the answer was sent."""
        super().__init__(status=answer.status)
        self._asked = request
        if not keep_alive:
            lines += CLOSING
        elif request.version == HttpVersion10:
            lines += b"Connection: keep-alive\r\n"
        if request.method == hdrs.METH_HEAD:
            answer = Answer(answer.status, answer.head)
        self._bytes = to_bytes(answer, lines)
        self._keeps_alive = keep_alive
        self._was_written = was_written

    @property
    def keep_alive(self) -> bool:
        return self._keeps_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Does nothing: the answer is complete."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Writes the answer, and waits while the client does not read.

        Raises:
            ConnectionError: the client has gone.
        """
        transport = self._asked.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        transport.write(self._bytes + data)
        await self._asked.writer.drain()
        self._was_written()
