"""How many connections there may be, and how long a request may take to arrive.

aiohttp bounds the size of a request, and the time that a connection is idle between two; not how
many connections there are, nor how slowly a request comes in. A sweep over the connections once a
second looks at where each stands, so that a request on time costs nothing.
"""

import asyncio
import resource
from collections.abc import Callable
from typing import Final, cast

import structlog
from aiohttp.web_protocol import RequestHandler

from collector.buffer.waiting import RETRY_AFTER_SECONDS
from contract.metrics import CollectorMetrics
from runtime.stopping import Stopping

# From the connection, or for one that is kept alive from its headers, to a request's last byte.
ARRIVAL_SECONDS: Final = 20.0
_SWEEP_SECONDS: Final = 1.0
# Beside connections: Redis, logs, listeners, admin pages.
_OTHER_FILES: Final = 64

_REFUSAL: Final = (
    "HTTP/1.1 503 Service Unavailable\r\n"
    f"Retry-After: {RETRY_AFTER_SECONDS}\r\n"
    "Content-Length: 0\r\nConnection: close\r\n\r\n"
).encode()

log = structlog.get_logger()


class ConnectionLimits:
    """Stands between a listening socket and aiohttp's protocol. Use `sweep` as a task."""

    def __init__(
        self,
        most: int,
        metrics: CollectorMetrics,
        arrival_seconds: float = ARRIVAL_SECONDS,
    ) -> None:
        self._most = most
        self._metrics = metrics
        self._arrival_seconds = arrival_seconds
        self._connections: Callable[[], list[RequestHandler]] = list
        self._count = 0  # at the last look, and those that came since
        self._incomplete: dict[RequestHandler, float] = {}  # since when, in the loop's time

    def allow_files(self) -> None:
        """Lets this process open as many files as it may have connections, if the system does."""
        wanted = self._most + _OTHER_FILES
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < allowed:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            log.warning(
                "the system allows fewer connections than MAX_CONNECTIONS",
                files=allowed,
                wanted=wanted,
                to_do=f"LimitNOFILE={wanted}, `ulimit -n {wanted}`, or a smaller MAX_CONNECTIONS",
            )

    def admit(
        self,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        connections: Callable[[], list[RequestHandler]],
    ) -> Callable[[], asyncio.BaseProtocol]:
        """A protocol factory that gives new connections to `make_protocol` while there is room.

        Args:
            make_protocol: aiohttp's server.
            connections: the connections that it has.
        """
        self._connections = connections

        def admitted() -> asyncio.BaseProtocol:
            if self._count >= self._most:
                self._count = len(connections())  # some have ended since they were counted
            if self._count < self._most:
                self._count += 1
                return make_protocol()
            self._metrics.connections_closed.labels("too_many").inc()
            log.warning(
                "a connection was refused: there are too many",
                most=self._most,
                to_do="start more collectors, or raise MAX_CONNECTIONS; see whether it is a flood",
            )
            return _Refusal()

        return admitted

    async def sweep(self, stopping: Stopping) -> None:
        """Closes, again and again, what takes too long to arrive, until asked to stop."""
        while not await stopping.wait(_SWEEP_SECONDS):
            self.sweep_once(asyncio.get_running_loop().time())

    def sweep_once(self, now: float) -> int:
        """One look, at an instant of the loop's time; how many connections were closed."""
        connections = self._connections()
        self._count = len(connections)
        self._metrics.connections.set(self._count)
        incomplete: dict[RequestHandler, float] = {}
        closed = 0
        for connection in connections:
            if not _awaits_request(connection):
                continue
            since = self._incomplete.get(connection, now)
            if now - since < self._arrival_seconds:
                incomplete[connection] = since
            else:
                connection.force_close()
                closed += 1
        self._incomplete = incomplete
        if closed:
            self._metrics.connections_closed.labels("slow").inc(closed)
        return closed


class _Refusal(asyncio.Protocol):
    """Says 503 and closes, with nothing read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        writing.write(_REFUSAL)
        writing.close()


def _awaits_request(connection: RequestHandler) -> bool:
    """Whether the rest of a request, or a connection's first one, has yet to come.

    One that is kept alive, between two requests, is aiohttp's to close.
    """
    request = connection._current_request  # noqa: SLF001 - it tells in no other way
    if request is not None:
        return not request.content.is_eof()
    return connection._request_count == 0  # noqa: SLF001 - the same
