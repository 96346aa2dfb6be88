"""The short way of a beacon: answered by its connection, without a task of its own.

aiohttp wakes one task and makes another for each request, which is most of what a request costs
when there is hardly anything to do. A request whose body came with its headers, on a connection
that has nothing else to do, needs neither: it is examined where it arrives, and answered where
Redis's reply does. All others, whatever is strange about them, take aiohttp's way.

It rests on attributes of aiohttp's `RequestHandler` that are not public: a new release is held to
what is relied upon by `tests/integration/test_express.py`.
"""

import asyncio
from typing import Any, Final, Protocol

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDictProxy

from collector.request.body import MAX_BYTES


class Reply(Protocol):
    """Sends a request's answer."""

    def __call__(self, answer: bytes, *, keep_alive: bool) -> None:
        """`keep_alive`: whether the connection may have another request."""
        ...


class Express(Protocol):
    """What answers: `collector.server.Server`."""

    def begin(self, headers: "CIMultiDictProxy[str]", peer: Any, body: bytes, reply: Reply) -> bool:
        """Has the request answered, now or later, by one call of `reply`; raises nothing.

        False: it has to take aiohttp's way.
        """
        ...


class ExpressHandler(RequestHandler):
    """A connection."""

    __slots__ = ("_answering", "_express", "_path")

    def __init__(self, manager: web.Server, express: Express, path: str, **options: Any) -> None:
        """
        Args:
            manager: aiohttp's server.
            express: answers.
            path: of the requests that take the short way; their method is POST.
            options: aiohttp's.
        """
        super().__init__(manager, **options)
        self._express: Final = express
        self._path: Final = path
        self._answering = False

    def data_received(self, data: bytes) -> None:
        """Parses; while aiohttp's task sleeps, it is woken only for what needs it."""
        sleeping = self._waiter
        if sleeping is None or sleeping.done():
            super().data_received(data)
            return
        self._waiter = None
        try:
            super().data_received(data)
        finally:
            self._waiter = sleeping
        if self._messages and not self._answering and not self._begin():
            self._wake()

    def _begin(self) -> bool:
        """Lets the first request take the short way, if it can."""
        message, payload = self._messages[0]
        if (
            getattr(message, "path", None) != self._path  # what could not be parsed has none
            or message.method != hdrs.METH_POST  # type: ignore[union-attr]  # else it has all
            or message.should_close  # type: ignore[union-attr]  # the same
            or message.upgrade  # type: ignore[union-attr]  # the same
            or message.version != HttpVersion11  # type: ignore[union-attr]  # the same
            or len(self._messages) > 1
            or not payload.is_eof()
            or payload.total_bytes > MAX_BYTES
            or payload.exception() is not None
            or self._paused
        ):
            return False
        # Looked at, not read: it is read where this way turns out to be closed.
        body = b"".join(payload._buffer) if payload.total_bytes else b""  # noqa: SLF001 - there is no other look
        self._messages.popleft()
        self._answering = self._request_in_progress = True
        if not self._express.begin(message.headers, self.peername, body, self._reply):  # type: ignore[union-attr]  # it was looked at above
            self._answering = self._request_in_progress = False
            self._messages.appendleft((message, payload))
            return False
        # It is not closed as an idle one while it waits, which is never for longer than this.
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._parser is not None:
            self._parser.message_consumed()
        return True

    def _reply(self, answer: bytes, *, keep_alive: bool) -> None:
        self._answering = self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)  # a shutdown waits for this answer
        transport = self.transport
        if transport is None or transport.is_closing():
            return  # the client has gone
        transport.write(answer)
        if not keep_alive:
            self.force_close()
        elif self._messages:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class ExpressServer(web.Server):
    """aiohttp's server, with these connections."""

    def __init__(self, handler: Any, express: Express, path: str, **options: Any) -> None:
        """As `web.Server`, and as `ExpressHandler`."""
        super().__init__(handler, **options)
        self._connection = express, path, options

    def __call__(self) -> RequestHandler:
        express, path, options = self._connection
        return ExpressHandler(self, express, path, loop=asyncio.get_running_loop(), **options)
