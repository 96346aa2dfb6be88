"""The HTTP server: its paths, its two parsers, and its clean end."""

import asyncio
import socket
from collections.abc import Iterable, Sequence

from collector.http import answers
from collector.http.answering import Answering, CommonHeaders
from collector.http.connection import Connection, Parts
from collector.http.connections import Connections, Phase
from collector.http.listener import Listener
from collector.http.routes import Page, Request, Respond, Route, Routes
from collector.http.unusual import UnusualConnection, UnusualServer
from collector.http.unusual_requests import UnusualRequests
from collector.http.usual import UsualRequests
from collector.sessions import Sessions
from contract.collector_metrics import CollectorMetrics
from contract.errors import Ignore

# How long to wait for the answers to accepted requests. Longer than a request waits for Redis.
DRAIN_SECONDS = 10.0
# How long to wait until connections close, each with its next answer.
FAREWELL_SECONDS = 2.0
# The same before a restart in place, which is not urgent.
HAND_OVER_SECONDS = 5.0

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
        return Connection(self._parts)

    def unusual_protocol(self) -> UnusualConnection:
        """The protocol of a connection whose requests aiohttp reads."""
        if self._unusual is None:  # it needs a running event loop
            requests = UnusualRequests(self._routes, self._answering, self._connections)
            self._unusual = UnusualServer(requests.serve, self._answering, self._connections)
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
