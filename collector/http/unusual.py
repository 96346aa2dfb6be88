"""aiohttp reads unusual requests: it gets a connection from a request's first byte to its end.

This is aiohttp's own public server protocol, with our limits and our answers. What its parser
refuses is answered in the contract's form and counted. `connections.py` watches these connections
like all others.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from collector.http.answering import Answering
from collector.http.answers import CLOSING, to_bytes
from collector.http.connections import KEEPALIVE_SECONDS, Connections, Standing
from collector.http.limits import MAX_HEAD, MAX_HEADERS, MAX_LINE, TOO_LARGE
from collector.http.written import Written
from collector.request.body import MAX_BYTES
from contract.errors import Reject, Retry

Serve = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# The event loop reads in pieces; beyond this size a request must have begun.
_MOST_UNFINISHED: Final = MAX_HEAD + MAX_BYTES
# How long the rest of a refused body is read: some clients read the answer only after sending all.
_LINGERING_SECONDS: Final = 2.0
_END: Final = re.compile(rb"\r\n\r\n")


class UnusualServer(web.Server):
    """Makes the protocols."""

    def __init__(self, serve: Serve, answering: Answering, connections: Connections) -> None:
        self._options: dict[str, Any] = {
            "access_log": None,  # it would write addresses
            "logger": _silent_logger(),
            "keepalive_timeout": KEEPALIVE_SECONDS,
            "max_line_size": MAX_LINE,
            "max_field_size": MAX_LINE,
            "max_headers": MAX_HEADERS,
            "auto_decompress": False,
            "lingering_time": _LINGERING_SECONDS,
        }
        super().__init__(serve, **self._options)
        self._answering = answering
        self._watched = connections

    def __call__(self) -> "UnusualConnection":
        return UnusualConnection(
            self,
            self._answering,
            self._watched,
            loop=asyncio.get_running_loop(),
            **self._options,
        )


class UnusualConnection(web.RequestHandler):
    """A connection whose requests aiohttp reads from now on."""

    __slots__ = (
        "answering",
        "begun",
        "body",
        "come",
        "half_closed",
        "headed",
        "last",
        "malformed",
        "refused",
        "second_look",
        "serving",
        "turns",
        "unserved",
        "waits",
        "watched",
    )

    def __init__(
        self,
        manager: web.Server,
        answering: Answering,
        connections: Connections,
        **options: Any,
    ) -> None:
        """
        Args:
            manager: aiohttp's server.
            answering: answers bytes that are not a request.
            connections: all connections.
            options: aiohttp's.
        """
        super().__init__(manager, **options)
        self.answering: Final = answering
        self.watched: Final = connections
        self.serving = False  # a request is under way
        self.waits = False  # for the rest of its body
        self.unserved = 0  # bytes that are not yet a request
        self.body: StreamReader | None = None  # of the current request
        self.second_look: HttpRequestParser | None = HttpRequestParser(self)
        self.malformed = False  # the last bytes were not HTTP
        self.last = b""  # the last three bytes received
        self.refused = False  # it ends with an answer to bytes that are not a request
        self.headed = 0  # requests whose headers are complete
        self.come = 0  # complete requests
        self.begun = 0
        self.half_closed = False
        self.turns = 0

    @property
    def standing(self) -> Standing:
        """Its phase."""
        if self.writing_paused:
            return Standing.WRITING
        if self.serving and not self.waits:
            return Standing.ANSWERING
        if self.half_closed:
            return Standing.ENDING
        if self.serving:
            return Standing.BODY
        return Standing.HEAD if self.unserved else Standing.IDLE

    def cut(self) -> None:
        """Closes it at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.watched.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._served()
        self.watched.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.refused:
            return
        if not self.serving and self.body is None:  # else it is the rest of a refused body
            if self.unserved > _MOST_UNFINISHED and self._awaits_headers():
                self._refuse(TOO_LARGE)
                return
            self.unserved += len(data)
            if not self.watched.hold(len(data)):
                self._refuse(Retry("overload", "too many requests are incomplete"))
                return
        self._look(data)
        # aiohttp drops requests that arrive in one piece with bytes that are not a request.
        for piece in self._by_headers(data):
            super().data_received(piece)
        self._fail_body()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio keeps it open for True
        """The client sends no more; its requests are still answered."""
        super().eof_received()
        self.half_closed = True
        self._close_when_answered()
        return True

    def begins(self, body: StreamReader) -> None:
        """A request's headers are complete."""
        self.serving = self.waits = True
        self.begun += 1
        self.body = body
        self._fail_body()
        self.turns += 1
        self._served()

    def has_come(self) -> None:
        """Its body is complete."""
        self.waits = False
        self.body = None

    def ends(self) -> None:
        """Its answer is ready."""
        self.serving = self.waits = False
        if self.body is not None and self.body.is_eof():
            self.body = None

    def was_written(self) -> None:
        """Its answer is on its way."""
        self._close_when_answered()

    def on_headers_complete(self) -> None:
        """The second parser has seen all headers of a request."""
        self.headed += 1

    def on_message_complete(self) -> None:
        """The second parser has seen a complete request."""
        self.come += 1

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> web.StreamResponse:
        """The contract's answer to bytes that aiohttp's parser refuses; the connection ends."""
        self.refused = True
        error: Exception
        if isinstance(exc, LineTooLong):
            error = TOO_LARGE
        elif status < 500:
            error = Reject(400, "not_http", "This is not a request of HTTP/1.1.")
        else:
            error = exc if isinstance(exc, Exception) else RuntimeError("aiohttp failed")
        answer, lines = self.answering.refuse(error)
        return Written(request, answer, lines, _nobody_waits, keep_alive=False)

    def _close_when_answered(self) -> None:
        """Closes if the client sends no more and everything is answered."""
        if (
            self.half_closed
            and self.second_look is not None  # otherwise aiohttp refuses something
            and self.begun >= self.come
            and (self.waits or not self.serving)
        ):
            self.force_close()

    def _by_headers(self, data: bytes) -> Iterator[bytes]:
        """Splits at the end of headers, also if that end arrived in two pieces. Empty data stays
        one piece: aiohttp passes that to itself, to continue with what it has kept.
        """
        seen = self.last
        self.last = (seen + data)[-3:]
        start = 0
        for end in _END.finditer(seen + data):
            yield data[start : end.end() - len(seen)]
            start = end.end() - len(seen)
        if start < len(data) or not data:
            yield data[start:]

    def _look(self, data: bytes) -> None:
        """Finds bytes that are not HTTP."""
        if self.second_look is None:
            return
        try:
            self.second_look.feed_data(data)
        except HttpParserUpgrade:
            self.second_look = None  # the connection ends with its answer
        except HttpParserError:
            self.second_look = None
            self.malformed = True

    def _fail_body(self) -> None:
        """Ends the wait for a body that aiohttp has silently stopped reading: it is malformed, or
        it is complete but has more after its last chunk than aiohttp accepts.
        """
        if self.body is None or self.body.is_eof():
            return
        has_come = self.second_look is not None and self.come >= self.begun
        if self.malformed or has_come:
            self.body.set_exception(web.RequestPayloadError("it is malformed"))

    def _awaits_headers(self) -> bool:
        """Whether nothing that came is still to be begun, or refused."""
        return self.second_look is not None and self.begun >= self.headed

    def _served(self) -> None:
        self.watched.hold(-self.unserved)
        self.unserved = 0

    def _refuse(self, error: Reject | Retry) -> None:
        """Answers what is coming, when nothing else is to be answered, and closes."""
        if self.transport is None:
            return
        self.refused = True
        answer, lines = self.answering.refuse(error)
        self.transport.write(to_bytes(answer, lines + CLOSING))
        self.force_close()


def _nobody_waits() -> None:
    """The connection ends anyway."""


def _silent_logger() -> logging.Logger:
    """The framework's own lines quote addresses and requests; ours say what is needed."""
    logger = logging.getLogger("collector.http")
    logger.disabled = True
    return logger
