"""The HTTP server: the mapping of errors to answers, and a clean end.

It is aiohttp's server without its application: routes, middlewares and responses cost as much
again as reading the request.
"""

import asyncio
import logging
import time
import traceback
from collections.abc import Iterable
from typing import Any

import structlog
from aiohttp import hdrs, web

from collector.http import answers
from collector.http.answers import Answer
from collector.http.connection_limits import ConnectionLimits
from collector.http.express import ExpressServer, Reply
from collector.http.listener import Listener
from collector.http.reading import read_body
from collector.http.routes import Route, Routes
from collector.http.sending import CLOSING, CommonHeaders, Sending, to_bytes
from collector.request.site import SitePolicy
from collector.sessions import Headers, Sessions
from contract.errors import Ignore, Reject, Retry
from contract.metrics import CollectorMetrics
from contract.plain_metrics import Count
from runtime.clock import Clock

# Longer than a load balancer keeps an idle connection (60 s where nothing is set), so that it is
# never this side that closes one on which a request is already on its way.
KEEPALIVE_SECONDS = 75.0
# What was accepted is answered before the process ends: longer than a request waits for Redis.
DRAIN_SECONDS = 10.0
# Connections that are kept alive are told with their next answer to go elsewhere; this long is
# waited for that answer.
FAREWELL_SECONDS = 2.0
_POLL_SECONDS = 0.05
# A token is the longest header there is. Some proxies and browsers send two dozen of them.
MAX_HEADER_BYTES = 8190
MAX_HEADERS = 64

_START = "/web_api/v1/sessions"
_UPGRADE = "/web_api/v1/sessions/{}/upgrade"
_PAGEVIEW = "/web_api/v1/sessions/{}/track_pageview"

log = structlog.get_logger()


class Server:
    """Listens on HOST:PORT, which several collectors of one machine may share."""

    def __init__(
        self,
        clock: Clock,
        sessions: Sessions,
        sites: SitePolicy,
        metrics: CollectorMetrics,
        limits: ConnectionLimits,
        pages: Iterable[Route] = (),
    ) -> None:
        """
        Args:
            clock: what answers are dated by.
            sessions: the two endpoints.
            sites: whose pages may read the answers.
            metrics: where requests are counted.
            limits: of the connections.
            pages: what else is served; their handlers count what they answer.
        """
        self._sessions = sessions
        self._metrics = metrics
        self._common = CommonHeaders(clock, sites.allows_origin)
        self._requests: dict[tuple[str, int], Count] = {}
        self._limits = limits
        self._listener = Listener()
        self._leaving = False
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
        self._runner: web.ServerRunner | None = None

    def protocols(self) -> ExpressServer:
        """Makes a protocol for each connection."""
        return ExpressServer(
            self._serve,
            self,
            _START,
            access_log=None,  # it would write addresses
            logger=_silent_logger(),
            keepalive_timeout=KEEPALIVE_SECONDS,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )

    async def start(self, host: str, port: int) -> None:
        """Accepts requests from here on.

        Raises:
            Misconfigured: the address can't be listened on.
        """
        server = self.protocols()
        self._runner = web.ServerRunner(server, shutdown_timeout=DRAIN_SECONDS)
        await self._runner.setup()
        protocols = self._limits.admit(server, lambda: server.connections)
        await self._listener.open(host, port, protocols)

    async def stop(self) -> None:
        """Accepts nothing more, answers what it has, closes every connection."""
        self._leaving = True
        await self._listener.close()
        deadline = time.monotonic() + FAREWELL_SECONDS
        while self._has_connections() and time.monotonic() < deadline:  # noqa: ASYNC110 - aiohttp has no event for it
            await asyncio.sleep(_POLL_SECONDS)
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def is_listening(self) -> bool:
        return self._listener.is_open

    def _has_connections(self) -> bool:
        server = self._runner.server if self._runner is not None else None
        return server is not None and bool(server.connections)

    async def _preflight(self, request: web.BaseRequest, _: str) -> Answer:
        self._metrics.ignored.labels("preflight").inc()
        return answers.preflight(request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS))

    async def _pageview(self, request: web.BaseRequest, _: str) -> Answer:
        """A page within a session, as some front-ends tell it: nothing of it is kept."""
        await read_body(request)
        raise Ignore("pageview")

    def begin(self, headers: Headers, peer: Any, body: bytes, reply: Reply) -> bool:
        """A session's request by the short way: answered by one call of `reply`; or False."""
        if self._leaving:
            return False
        started = time.perf_counter()
        origin = headers.get(hdrs.ORIGIN)
        session_id = b""

        def answered(error: Retry | None) -> None:
            answer = self._sessions.stored(session_id) if error is None else self._answer_to(error)
            self._finish(reply, answer, origin, started)

        try:
            begun = self._sessions.begin(headers, peer[0] if peer else None, body, answered)
        except Exception as error:  # noqa: BLE001 - each has its answer
            self._finish(reply, self._answer_to(error), origin, started)
            return True
        if begun is None:
            return False
        session_id = begun
        return True

    async def _serve(self, request: web.BaseRequest) -> Sending | web.StreamResponse:
        """Any request, by aiohttp's way."""
        started = time.perf_counter()
        name, keep_alive = "unknown", request.keep_alive
        answer: Answer | web.StreamResponse
        try:
            route, named = self._routes.find(request)
            name = route.name
            answer = await route.handle(request, named)
        except Exception as error:  # noqa: BLE001 - each has its answer
            answer = self._answer_to(error)
            content = request.content
            if isinstance(error, Reject) and not (content.is_eof() and content.exception() is None):
                # What is left of the body would be taken for the next request.
                keep_alive = False
        headers = self._count(name, answer.status, request.headers.get(hdrs.ORIGIN), started)
        keep_alive = keep_alive and not self._leaving
        if isinstance(answer, Answer):
            return Sending(request, answer, headers, keep_alive=keep_alive)
        if not keep_alive:
            answer.force_close()
        return answer

    def _finish(self, reply: Reply, answer: Answer, origin: str | None, started: float) -> None:
        try:
            headers = self._count("start", answer.status, origin, started)
        except Exception as error:  # noqa: BLE001 - nobody else would answer
            answer, headers = self._answer_to(error), b""
        if self._leaving:
            headers += CLOSING
        reply(to_bytes(answer, headers), keep_alive=not self._leaving)

    def _count(self, name: str, status: int, origin: str | None, started: float) -> bytes:
        """Counts an answer; the header lines that any has."""
        headers = self._common.lines(origin)
        self._answered(name, status).inc()
        self._metrics.request_seconds.observe(time.perf_counter() - started)
        return headers

    def _answer_to(self, error: BaseException) -> Answer:
        """The one place where the end of a request that failed becomes its answer."""
        match error:
            case Ignore():
                self._metrics.ignored.labels(error.reason).inc()
                return answers.ignored()
            case Reject():
                self._metrics.rejected.labels(error.reason).inc()
                return answers.rejected(error)
            case Retry():
                self._metrics.failed.labels(error.reason).inc()
                return answers.unavailable(error)
            case ConnectionError():
                self._metrics.rejected.labels("disconnected").inc()
                return answers.make(400)
            case _:  # the last line: a fault must not end the process
                self._metrics.failed.labels("fault").inc()
                _report(error)
                return answers.broken()

    def _answered(self, name: str, status: int) -> Count:
        """The counter of one route and status; to look up its labels costs more than to count."""
        counter = self._requests.get((name, status))
        if counter is None:
            counter = self._metrics.requests.labels(name, status)
            self._requests[name, status] = counter
        return counter


def _report(error: BaseException) -> None:
    # Where it happened, but not its message, which could quote the request.
    where = traceback.extract_tb(error.__traceback__)[-1]
    log.error(
        "a request could not be served; this is a fault in the collector",
        error=type(error).__name__,
        where=f"{where.filename}:{where.lineno}",
    )


def _silent_logger() -> logging.Logger:
    """The framework's own lines quote addresses and requests; ours say what is needed."""
    logger = logging.getLogger("collector.http")
    logger.disabled = True
    return logger
