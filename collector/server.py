"""The HTTP server: routes, the mapping of errors to answers, and a clean end."""

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable

import structlog
from aiohttp import hdrs, web

from collector import answers
from collector.body import MAX_BYTES
from collector.connection_limits import ConnectionLimits
from collector.listener import Listener
from collector.sessions import Sessions
from contract.errors import Ignore, Reject, Retry
from contract.metrics import CollectorMetrics

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
_UPGRADE = "/web_api/v1/sessions/{id}/upgrade"
_ROUTES = {_START: "start", _UPGRADE: "upgrade"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()


class Server:
    """Listens on HOST:PORT, which several collectors of one machine may share."""

    def __init__(
        self,
        sessions: Sessions,
        metrics: CollectorMetrics,
        limits: ConnectionLimits,
        pages: Iterable[web.RouteDef] = (),
    ) -> None:
        """Serves the two endpoints, and `pages`, whose handlers count what they answer."""
        self._sessions = sessions
        self._limits = limits
        self._metrics = metrics
        self._listener = Listener()
        self._leaving = False
        application = web.Application(client_max_size=MAX_BYTES, middlewares=[self._answer])
        application.add_routes(
            [
                web.post(_START, sessions.start, name="start"),
                web.options(_START, self._preflight),
                web.patch(_UPGRADE, sessions.upgrade, name="upgrade"),
                web.post(_UPGRADE, sessions.upgrade),
                web.options(_UPGRADE, self._preflight),
                *pages,
            ]
        )
        self._runner = web.AppRunner(
            application,
            access_log=None,  # it would write addresses
            logger=_silent_logger(),
            keepalive_timeout=KEEPALIVE_SECONDS,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            shutdown_timeout=DRAIN_SECONDS,
        )

    async def start(self, host: str, port: int) -> None:
        """Accepts requests from here on.

        Raises:
            Misconfigured: the address can't be listened on.
        """
        await self._runner.setup()
        server = self._runner.server
        if server is None:
            raise RuntimeError("aiohttp has set up no server")
        protocols = self._limits.admit(server, lambda: server.connections)
        await self._listener.open(host, port, protocols)

    async def stop(self) -> None:
        """Accepts nothing more, answers what it has, closes every connection."""
        self._leaving = True
        await self._listener.close()
        deadline = time.monotonic() + FAREWELL_SECONDS
        while self._has_connections() and time.monotonic() < deadline:  # noqa: ASYNC110 - aiohttp has no event for it
            await asyncio.sleep(_POLL_SECONDS)
        await self._runner.cleanup()

    @property
    def is_listening(self) -> bool:
        return self._listener.is_open

    def _has_connections(self) -> bool:
        server = self._runner.server
        return server is not None and bool(server.connections)

    async def _preflight(self, _: web.Request) -> web.Response:
        self._metrics.ignored.labels("preflight").inc()
        return answers.preflight()

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Maps every end of a request to its answer, and counts it."""
        started = time.perf_counter()
        response: web.StreamResponse
        try:
            response = await handler(request)
        except Ignore as ignore:
            self._metrics.ignored.labels(ignore.reason).inc()
            response = answers.ignored()
        except Reject as reject:
            self._metrics.rejected.labels(reject.reason).inc()
            response = answers.rejected(reject)
            if not request.content.at_eof() or request.content.exception() is not None:
                # What is left of the body would be taken for the next request.
                response.force_close()
        except Retry as retry:
            self._metrics.failed.labels(retry.reason).inc()
            response = answers.unavailable(retry)
        except web.HTTPException as error:
            self._metrics.rejected.labels(_reason(error)).inc()
            response = answers.http_error(error)
        except ConnectionError:
            self._metrics.rejected.labels("disconnected").inc()
            response = web.Response(status=400)
        except Exception as error:  # noqa: BLE001 - the last line: a fault must not end the process
            self._metrics.failed.labels("fault").inc()
            # Where it happened, but not its message, which could quote the request.
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error(  # noqa: TRY400 - exception() would write the message
                "a request could not be served; this is a fault in the collector",
                error=type(error).__name__,
                where=f"{where.filename}:{where.lineno}",
            )
            response = answers.broken()
        if self._leaving:
            response.force_close()
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and self._sessions.allows_origin(origin):
            answers.allow_origin(response, origin)
        self._metrics.requests.labels(_route(request), response.status).inc()
        self._metrics.request_seconds.observe(time.perf_counter() - started)
        return response


def _route(request: web.Request) -> str:
    if request.match_info.http_exception is not None:
        return "unknown"
    if request.method == hdrs.METH_OPTIONS:
        return "preflight"
    resource = request.match_info.route.resource
    return _ROUTES.get(resource.canonical, "page") if resource is not None else "page"


def _reason(error: web.HTTPException) -> str:
    return {404: "unknown_path", 405: "method"}.get(error.status, "http")


def _silent_logger() -> logging.Logger:
    """The framework's own lines quote addresses and requests; ours say what is needed."""
    logger = logging.getLogger("collector.http")
    logger.disabled = True
    return logger
