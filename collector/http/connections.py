"""All connections: how many there may be, how long each phase may take, and how they end.

This covers every connection from its first byte to its last, whichever code reads it
(`connection.py`, `unusual.py`). Once a second a sweep checks the phase of each connection, so that
requests need no timers of their own. A connection that stays in one phase for too long is closed.
"""

import asyncio
import math
import resource
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Protocol, cast

import structlog

from collector.buffer.pending import RETRY_AFTER_SECONDS
from contract.collector_metrics import CollectorMetrics
from runtime.stopping import Stopping

# Longer than a load balancer keeps an idle connection (60 s by default), so that this side never
# closes a connection on which a request is already on its way.
KEEPALIVE_SECONDS: Final = 75.0
# Bytes of incomplete requests, of all connections together.
MAX_UNFINISHED: Final = 16 * 1024 * 1024

_SWEEP_SECONDS: Final = 1.0
# Beside connections: Redis, logs, listeners, admin pages.
_OTHER_FILES: Final = 64

_REFUSAL: Final = (
    "HTTP/1.1 503 Service Unavailable\r\n"
    f"Retry-After: {RETRY_AFTER_SECONDS}\r\n"
    "Content-Length: 0\r\nConnection: close\r\n\r\n"
).encode()

log = structlog.get_logger()


class Standing(Enum):
    """The phase of a connection."""

    NEW = auto()  # nothing has arrived
    HEAD = auto()  # a request's headers are arriving
    BODY = auto()  # its body is arriving
    ANSWERING = auto()  # we are working on the answer
    WRITING = auto()  # the client does not read its answers
    ENDING = auto()  # the client was asked to close it, and has not yet
    IDLE = auto()  # between two requests


# The limit of each phase in seconds, and the label under which a connection that exceeds it is
# counted. An answer has no limit here: it waits for Redis, which has its own limit.
_LIMITS: Final[dict[Standing, tuple[float, str | None]]] = {
    Standing.NEW: (20.0, "slow"),
    Standing.HEAD: (10.0, "slow"),
    Standing.BODY: (20.0, "slow"),
    Standing.ANSWERING: (math.inf, None),
    Standing.WRITING: (10.0, "unread"),
    Standing.ENDING: (5.0, None),
    Standing.IDLE: (KEEPALIVE_SECONDS, None),
}


class Watched(Protocol):
    """A connection that may be closed for taking too long."""

    turns: int  # changes with each request

    @property
    def standing(self) -> Standing:
        """Its phase."""
        ...

    def cut(self) -> None:
        """Closes it at once."""
        ...


class Connections:
    """All connections. Run `sweep` as a task."""

    def __init__(self, most: int, metrics: CollectorMetrics) -> None:
        """`most`: the most connections at a time."""
        self._most = most
        self._metrics = metrics
        self._all: set[Watched] = set()
        self._seen: dict[Watched, tuple[Standing, int, float]] = {}  # since when: the loop's time
        self._unfinished = 0
        self._none_left = asyncio.Event()
        self._none_left.set()
        self.leaving = False

    def __len__(self) -> int:
        return len(self._all)

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
        """Registers a connection."""
        self._all.add(connection)
        self._none_left.clear()

    def remove(self, connection: Watched) -> None:
        """The connection has ended, or another protocol has taken it over."""
        self._all.discard(connection)
        if not self._all:
            self._none_left.set()

    def hold(self, more: int) -> bool:
        """Adds to (or subtracts from) the bytes of unfinished requests; False: too many."""
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

    def cut(self, *standings: Standing) -> None:
        """Closes the connections in these phases; without arguments, all."""
        for connection in list(self._all):
            if not standings or connection.standing in standings:
                connection.cut()

    async def sweep(self, stopping: Stopping) -> None:
        """Repeatedly closes connections that take too long, until asked to stop."""
        while not await stopping.wait(_SWEEP_SECONDS):
            self.sweep_once(asyncio.get_running_loop().time())

    def sweep_once(self, now: float) -> int:
        """One sweep, at a time of the event loop; returns how many connections were closed."""
        self._metrics.connections.set(len(self._all))
        seen: dict[Watched, tuple[Standing, int, float]] = {}
        closed = 0
        for connection in list(self._all):
            standing, turns = connection.standing, connection.turns
            before = self._seen.get(connection)
            since = before[2] if before and before[:2] == (standing, turns) else now
            seconds, reason = _LIMITS[standing]
            if now - since < seconds:
                seen[connection] = standing, turns, since
                continue
            connection.cut()
            closed += 1
            if reason is not None:
                self._metrics.connections_closed.labels(reason).inc()
        self._seen = seen
        return closed


class _Refusal(asyncio.Protocol):
    """Answers 503 and closes, without reading."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        writing.write(_REFUSAL)
        writing.close()
