"""The HTTP server: its paths, its two parsers, and its clean end."""

import asyncio
import socket
import time
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import cast

from aiohttp import hdrs, web

from collector.http import answers
from collector.http.answering import Answering, CommonHeaders
from collector.http.answers import Answer
from collector.http.connection import Connection, Parts
from collector.http.connections import Connections, Phase
from collector.http.listener import Listener
from collector.http.reading import check_headers, read_body
from collector.http.request import Request, Respond
from collector.http.routes import Page, Route, Routes
from collector.http.unusual import UnusualConnection, UnusualServer
from collector.http.usual import UsualRequests
from collector.http.written import Written
from collector.sessions import Sessions
from contract.collector_metrics import CollectorMetrics
from contract.errors import Ignore

# How long to wait for the answers to accepted requests. Longer than a request waits for Redis.
DRAIN_SECONDS = 10.0
# How long to wait until connections close, each with its next answer.
FAREWELL_SECONDS = 2.0
# The same before a restart in place, which is not urgent.
HAND_OVER_SECONDS = 5.0

_ENDS_CONNECTION = (
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
)

_START = "/web_api/v1/sessions"
_UPGRADE = "/web_api/v1/sessions/{}/upgrade"
_PAGEVIEW = "/web_api/v1/sessions/{}/track_pageview"


class Server:
    """Listens on HOST:PORT, which several collectors of one machine may share."""

    def __init__(
        self,
        headers: CommonHeaders,
        sessions: Sessions,
        metrics: CollectorMetrics,
        connections: Connections,
        pages: Iterable[Page] = (),
        listening: Sequence[socket.socket] = (),
    ) -> None:
        """`listening`: the sockets of the program that ran in this process before."""
        self._metrics = metrics
        self._connections = connections
        self._listener = Listener(listening)
        self._routes = Routes(
            (
                Route("POST", _START, "start", sessions.start),
                Route("OPTIONS", _START, "preflight", self._preflight),
                Route("PATCH", _UPGRADE, "upgrade", sessions.upgrade),
                Route("POST", _UPGRADE, "upgrade", sessions.upgrade),
                Route("OPTIONS", _UPGRADE, "preflight", self._preflight),
                Route("POST", _PAGEVIEW, "pageview", self._pageview),
                Route("OPTIONS", _PAGEVIEW, "preflight", self._preflight),
                *pages,
            )
        )
        self._answering = Answering(headers, metrics)
        usual = UsualRequests(self._routes)
        self._parts = Parts(self._answering, connections, usual, self.unusual_protocol)
        self._unusual: UnusualServer | None = None

    def protocol(self) -> Connection:
        """The protocol of a new connection."""
        return Connection(self._parts)

    def unusual_protocol(self) -> UnusualConnection:
        """The protocol of a connection whose requests aiohttp reads."""
        if self._unusual is None:  # it needs a running event loop
            self._unusual = UnusualServer(self._serve, self._answering, self._connections)
        return self._unusual()

    async def start(self, host: str, port: int) -> None:
        """Accepts requests from here on.

        Raises:
            Misconfigured: the address can't be listened on.
        """
        await self._listener.open(host, port, self._connections.admit(self.protocol))

    async def stop(self) -> None:
        """Accepts no more requests, answers those that it has, and closes every connection."""
        self._connections.draining = True
        await self._listener.close()
        await self._end_connections()

    async def hand_over(self) -> list[socket.socket]:
        """Answers its requests, and closes every connection; new ones wait in the returned sockets.

        First, the next answer on each connection closes it. The new connections of these clients
        are accepted meanwhile.
        """
        connections = self._connections
        connections.draining = True
        await connections.wait_until_none(HAND_OVER_SECONDS)
        listening = self._listener.pause()
        await asyncio.sleep(0)  # so that the last accepted connections are registered
        connections.abort(Phase.IDLE)
        await self._end_connections()
        return listening

    async def _end_connections(self) -> None:
        connections = self._connections
        if not await connections.wait_until_none(FAREWELL_SECONDS):
            connections.abort(*set(Phase) - {Phase.ANSWERING, Phase.WRITING})
            await connections.wait_until_none(DRAIN_SECONDS)
        connections.abort()
        if self._unusual is not None:
            await self._unusual.shutdown(1.0)

    @property
    def is_listening(self) -> bool:
        return self._listener.is_open

    def _preflight(self, request: Request, respond: Respond) -> None:
        self._metrics.ignored.labels("preflight").inc()
        respond(answers.preflight(request.headers.get("access-control-request-headers")))

    def _pageview(self, _: Request, __: Respond) -> None:
        """Some front-ends report each page view. Nothing is stored."""
        raise Ignore("pageview")

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Called by aiohttp when it has read a request's headers."""
        connection = cast("UnusualConnection", request.protocol)
        connection.request_begins(request.content)
        try:
            return await self._answer(request, connection)
        finally:
            connection.request_ends()

    async def _answer(
        self, request: web.BaseRequest, connection: UnusualConnection
    ) -> web.StreamResponse:
        started = time.perf_counter()
        name, origin = "unknown", request.headers.get(hdrs.ORIGIN)
        # After a request to change the protocol, the next bytes might not be HTTP.
        keep_alive = request.keep_alive and hdrs.UPGRADE not in request.headers
        try:
            try:
                check_headers(request)
                route, named = self._routes.find(request.method, request.path)
                name = route.name
            finally:
                body = await read_body(request)
                connection.body_received()
            if isinstance(route, Page):
                page = await route.show(request, named)
                self._answering.count(name, page.status, origin, started)
                if not keep_alive or self._connections.draining:
                    page.force_close()
                return page
        except Exception as error:  # noqa: BLE001 - each becomes an answer
            answer = self._answering.of_error(error)
            lines = self._answering.count(name, answer.status, origin, started)
            content = request.content
            if (
                answer.status in _ENDS_CONNECTION
                or not content.is_eof()
                or content.exception() is not None
            ):
                # Otherwise the rest of the body would be read as the next request.
                keep_alive = False
        else:
            complete = Request(request.headers, _peer(request), body, named)
            answer, lines = await self._answer_of_endpoint(route, complete)
        keep_alive = keep_alive and not self._connections.draining
        return Written(
            request, answer, lines, connection.close_when_answered, keep_alive=keep_alive
        )

    async def _answer_of_endpoint(self, route: Route, request: Request) -> tuple[Answer, bytes]:
        sent: asyncio.Future[tuple[Answer, bytes]] = asyncio.get_running_loop().create_future()

        def send(answer: Answer, lines: bytes) -> None:
            if not sent.done():  # otherwise its connection is gone
                sent.set_result((answer, lines))

        self._answering.begin(route, request, send)
        return await sent


def _peer(request: web.BaseRequest) -> str | None:
    transport = request.transport
    peername = transport.get_extra_info("peername") if transport is not None else None
    return peername[0] if peername else None
