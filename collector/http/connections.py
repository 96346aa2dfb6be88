"""All connections: limits their number and the time of each phase.

This covers the connections of `connection.py` and of `unusual.py`. A sweep checks the phase of each
connection once a second, so requests need no timers. It closes those that exceed their limit.
"""

import asyncio
import math
import resource
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Protocol, cast

import structlog

from collector.http.answers import CLOSING, UNAVAILABLE, to_bytes
from contract.collector_metrics import CollectorMetrics
from runtime.stopping import Stopping

# Longer than load balancers keep an idle connection (60 s by default). Otherwise we could close a
# connection while a request is on its way.
KEEPALIVE_SECONDS: Final = 75.0
MAX_UNFINISHED: Final = 16 * 1024 * 1024  # bytes of incomplete requests, on all connections

_SWEEP_SECONDS: Final = 1.0
_OTHER_FILES: Final = 64  # for Redis, logs, listeners, admin pages

_REFUSAL: Final = to_bytes(UNAVAILABLE, CLOSING)

log = structlog.get_logger()


class Phase(Enum):
    """The phase of a connection."""

    NEW = auto()  # nothing has arrived
    HEAD = auto()  # a request's headers are arriving
    BODY = auto()  # its body is arriving
    ANSWERING = auto()  # we are working on the answer
    WRITING = auto()  # the client does not read its answers
    ENDING = auto()  # we have closed our direction, and wait for the client's
    IDLE = auto()  # between two requests


# For each phase the limit in seconds, and the metric's label for connections that exceed it. An
# answer has no limit here: the wait for Redis has its own.
_LIMITS: Final[dict[Phase, tuple[float, str | None]]] = {
    Phase.NEW: (20.0, "slow"),
    Phase.HEAD: (10.0, "slow"),
    Phase.BODY: (20.0, "slow"),
    Phase.ANSWERING: (math.inf, None),
    Phase.WRITING: (10.0, "unread"),
    Phase.ENDING: (5.0, None),
    Phase.IDLE: (KEEPALIVE_SECONDS, None),
}


class Watched(Protocol):
    """A connection that may be closed because it takes too long."""

    begun: int  # the number of its requests so far

    @property
    def phase(self) -> Phase: ...

    def abort(self) -> None: ...


class Connections:
    """All connections. Run `sweep` as a task."""

    def __init__(self, most: int, metrics: CollectorMetrics) -> None:
        """`most`: how many there may be at a time."""
        self._most = most
        self._metrics = metrics
        self._all: set[Watched] = set()
        # Of the last sweep: the phase, the request, and since when (the loop's time).
        self._seen: dict[Watched, tuple[Phase, int, float]] = {}
        self._unfinished = 0
        self._none_left = asyncio.Event()
        self._none_left.set()
        self.draining = False  # each connection ends with its next answer

    def __len__(self) -> int:
        return len(self._all)

    def allow_files(self) -> None:
        """Raises the system's limit of open files to what the connections need, if possible."""
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
        self, make_protocol: Callable[[], asyncio.BaseProtocol]
    ) -> Callable[[], asyncio.BaseProtocol]:
        """A protocol factory that gives new connections to `make_protocol` while there is room."""

        def admitted() -> asyncio.BaseProtocol:
            if len(self._all) < self._most:
                return make_protocol()
            self._metrics.connections_closed.labels("too_many").inc()
            log.warning(
                "a connection was refused: there are too many",
                most=self._most,
                to_do="start more collectors, or raise MAX_CONNECTIONS; check for an attack",
            )
            return _Refusal()

        return admitted

    def add(self, connection: Watched) -> None:
        self._all.add(connection)
        self._none_left.clear()

    def remove(self, connection: Watched) -> None:
        """The connection has ended, or another protocol has taken it over."""
        self._all.discard(connection)
        if not self._all:
            self._none_left.set()

    def count_unfinished(self, more: int) -> bool:
        """Adds to the bytes of unfinished requests, or subtracts; False: there are too many."""
        self._unfinished += more
        return self._unfinished <= MAX_UNFINISHED

    async def wait_until_none(self, seconds: float) -> bool:
        """Waits until every connection has ended; False: not within this time."""
        try:
            async with asyncio.timeout(seconds):
                await self._none_left.wait()
        except TimeoutError:
            return False
        return True

    def abort(self, *phases: Phase) -> None:
        """Closes the connections in these phases; without arguments, all."""
        for connection in list(self._all):
            if not phases or connection.phase in phases:
                connection.abort()

    async def sweep(self, stopping: Stopping) -> None:
        """Sweeps once a second, until asked to stop."""
        while not await stopping.wait(_SWEEP_SECONDS):
            self.sweep_once(asyncio.get_running_loop().time())

    def sweep_once(self, now: float) -> int:
        """Closes connections that take too long; returns how many. `now` is the loop's time."""
        self._metrics.connections.set(len(self._all))
        seen: dict[Watched, tuple[Phase, int, float]] = {}
        closed = 0
        for connection in list(self._all):
            phase, begun = connection.phase, connection.begun
            before = self._seen.get(connection)
            since = before[2] if before and before[:2] == (phase, begun) else now
            seconds, reason = _LIMITS[phase]
            if now - since < seconds:
                seen[connection] = phase, begun, since
                continue
            connection.abort()
            closed += 1
            if reason is not None:
                self._metrics.connections_closed.labels(reason).inc()
        self._seen = seen
        return closed


class _Refusal(asyncio.Protocol):
    """Answers 503 and closes, without reading."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast("asyncio.Transport", transport)  # uvloop's has no such class
        writing.write(_REFUSAL)
        writing.close()
