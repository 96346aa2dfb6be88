"""aiohttp's public server protocol for unusual requests, with our limits and our answers.

It gets a connection from the first byte of an unusual request to the connection's end. What its
parser refuses is counted, and answered in the contract's form.

A second parser (httptools) reads the same bytes. It shows what aiohttp does not say: whether the
bytes are HTTP, and how many requests are complete.
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
from collector.http.connections import KEEPALIVE_SECONDS, Connections, Phase
from collector.http.limits import MAX_HEAD, MAX_HEADERS, MAX_LINE, headers_too_large, overload
from collector.http.written import Written
from collector.request.body import MAX_BYTES
from contract.errors import Reject, Retry

Serve = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# The headers of a request must be complete before more bytes than this have arrived.
_MOST_UNFINISHED: Final = MAX_HEAD + MAX_BYTES
# How long the rest of a refused body is read: some clients read no answer before they have sent it.
_LINGERING_SECONDS: Final = 2.0
_END: Final = re.compile(rb"\r\n\r\n")


class UnusualServer(web.Server):
    """Makes the protocols; call it for each connection."""

    def __init__(self, serve: Serve, answering: Answering, connections: Connections) -> None:
        self._options: dict[str, Any] = {
            "access_log": None,  # it would contain addresses
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
        self._all_connections = connections

    def __call__(self) -> "UnusualConnection":
        return UnusualConnection(
            self,
            self._answering,
            self._all_connections,
            loop=asyncio.get_running_loop(),
            **self._options,
        )


class UnusualConnection(web.RequestHandler):
    """A connection whose requests aiohttp reads."""

    def __init__(
        self, manager: web.Server, answering: Answering, connections: Connections, **options: Any
    ) -> None:
        """`answering`: for bytes that are not a request. `manager`, `options`: aiohttp's."""
        super().__init__(manager, **options)
        self.answering: Final = answering
        self.all_connections: Final = connections
        self.serving = False  # a request has begun, and has no answer yet
        self.unfinished = 0  # bytes that arrived before a request's headers were complete
        # The body of the current request while it is not complete; after a refusal its rest.
        self.body: StreamReader | None = None
        self.second_parser: HttpRequestParser | None = HttpRequestParser(self)
        self.malformed = False  # bytes were not HTTP
        self.last = b""  # the last three bytes received
        self.refused = False  # the connection ends with an answer to bytes that are not a request
        self.headers_seen = 0  # of one request, by the second parser
        self.too_many_headers: int | None = None  # the number of the first request with too many
        self.heads_seen = 0  # requests whose headers the second parser has seen
        self.completed = 0  # requests that it has seen completely
        self.begun = 0  # requests whose headers aiohttp has read
        self.half_closed = False  # the client sends no more

    @property
    def phase(self) -> Phase:
        if self.writing_paused:
            return Phase.WRITING
        if self.serving and self.body is None:
            return Phase.ANSWERING
        if self.half_closed:
            return Phase.ENDING
        if self.serving:
            return Phase.BODY
        return Phase.HEAD if self.unfinished else Phase.IDLE

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.all_connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._clear_unfinished()
        self.all_connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.refused:
            return
        if not self.serving and self.body is None:  # otherwise it is the rest of a refused body
            # False if aiohttp has a complete request to begin, or bytes to refuse.
            awaits_headers = self.second_parser is not None and self.begun >= self.heads_seen
            if awaits_headers and self.unfinished > _MOST_UNFINISHED:
                self._refuse(headers_too_large())
                return
            self.unfinished += len(data)
            if not self.all_connections.count_unfinished(len(data)):
                self._refuse(overload())
                return
        self._parse_again(data)
        # If bytes that are not HTTP follow a request in one piece, aiohttp would drop the request.
        for piece in self._by_headers(data):
            super().data_received(piece)
        self._fail_body()

    def eof_received(self) -> bool:  # type: ignore[override]  # True: asyncio keeps it open
        """The client sends no more. Its requests are still answered."""
        super().eof_received()
        self.half_closed = True
        self.close_when_answered()
        return True

    def request_begins(self, body: StreamReader) -> None:
        """The headers of a request are complete."""
        self.serving = True
        self.begun += 1
        self.body = body
        self._fail_body()
        self._clear_unfinished()

    def body_received(self) -> None:
        """The current request's body is complete."""
        self.body = None

    def request_ends(self) -> None:
        """The current request's answer is ready."""
        self.serving = False
        if self.body is not None and self.body.is_eof():
            self.body = None

    def on_message_begin(self) -> None:
        """The second parser has seen the first byte of a request."""
        self.headers_seen = 0

    def on_header(self, _: bytes, __: bytes) -> None:
        """The second parser has seen a header."""
        self.headers_seen += 1
        if self.headers_seen > MAX_HEADERS and self.too_many_headers is None:
            self.too_many_headers = self.heads_seen

    def on_headers_complete(self) -> None:
        """The second parser has seen all headers of a request."""
        self.heads_seen += 1

    def on_message_complete(self) -> None:
        """The second parser has seen a complete request."""
        self.completed += 1

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> web.StreamResponse:
        """Answers bytes that aiohttp's parser refuses; the connection ends."""
        self.refused = True
        error: Exception
        if isinstance(exc, LineTooLong) or self.too_many_headers == self.begun:
            error = headers_too_large()
        elif status < 500:
            error = Reject(400, "not_http", "This is not a request of HTTP/1.1.")
        else:
            error = exc if isinstance(exc, Exception) else RuntimeError("aiohttp failed")
        answer, lines = self.answering.refuse(error)
        return Written(request, answer, lines, lambda: None, keep_alive=False)

    def close_when_answered(self) -> None:
        """Closes if the client sends no more, and all of its requests are answered."""
        if (
            self.half_closed
            and self.second_parser is not None  # otherwise aiohttp is about to refuse bytes
            and self.begun >= self.completed
            and (self.body is not None or not self.serving)
        ):
            self.force_close()

    def _by_headers(self, data: bytes) -> Iterator[bytes]:
        """Splits data after each end of headers, even if this end began in the piece before.

        Empty data stays one piece: aiohttp passes it to itself, to continue with what it has kept.
        """
        seen = self.last
        self.last = (seen + data)[-3:]
        start = 0
        for end in _END.finditer(seen + data):
            yield data[start : end.end() - len(seen)]
            start = end.end() - len(seen)
        if start < len(data) or not data:
            yield data[start:]

    def _parse_again(self, data: bytes) -> None:
        """Has the second parser read the data."""
        if self.second_parser is None:
            return
        try:
            self.second_parser.feed_data(data)
        except HttpParserUpgrade:
            self.second_parser = None  # the connection ends with this request's answer
        except HttpParserError:
            self.second_parser = None
            self.malformed = True

    def _fail_body(self) -> None:
        """Ends the wait for a body that aiohttp has silently stopped reading: it is malformed, or
        more follows its last chunk than aiohttp accepts.
        """
        if self.body is None or self.body.is_eof():
            return
        is_complete = self.second_parser is not None and self.completed >= self.begun
        if self.malformed or is_complete:
            self.body.set_exception(web.RequestPayloadError("it is malformed"))

    def _clear_unfinished(self) -> None:
        self.all_connections.count_unfinished(-self.unfinished)
        self.unfinished = 0

    def _refuse(self, error: Reject | Retry) -> None:
        """Answers bytes that are not a request, when no other answer is due, and closes."""
        if self.transport is None:
            return
        self.refused = True
        answer, lines = self.answering.refuse(error)
        self.transport.write(to_bytes(answer, lines + CLOSING))
        self.force_close()


def _silent_logger() -> logging.Logger:
    """The lines of aiohttp would quote addresses and requests."""
    logger = logging.getLogger("collector.http")
    logger.disabled = True
    return logger
