"""Writes to one Redis server: what gathers while a write is on its way shares the next one.

Only its own tasks touch the connections, so that a request that goes away can't.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import structlog
from redis.exceptions import RedisError

from collector.waiting import WAIT_SECONDS
from collector.wire import pack
from contract.errors import Retry
from contract.metrics import CollectorMetrics
from process.redis_client import is_passing, retry_for

MAX_BATCH = 512
MAX_WAITING = 2_000
_PAUSE_SECONDS = 0.1
# Milliseconds. Less than a command may take, so that the server's answer comes first.
_DURABLE_MS = 3000
# A server that syncs once a second acknowledges once a second: several batches wait together.
_DURABLE_WRITERS = 8

log = structlog.get_logger()


class Durability(StrEnum):
    """What Redis must have done before a record counts as stored (`APPEND_DURABILITY`)."""

    SERVER = "server"  # acknowledged the command: as durable as its appendfsync makes it
    FSYNC = "fsync"  # WAITAOF: its append-only file is on disk (Redis 7.2, Valkey 8)
    REPLICA = "replica"  # WAIT: a replica has it


_WAIT_UNTIL_DURABLE = {
    Durability.SERVER: b"",
    Durability.FSYNC: pack(b"WAITAOF", b"1", b"0", b"%d" % _DURABLE_MS),
    Durability.REPLICA: pack(b"WAIT", b"1", b"%d" % _DURABLE_MS),
}


class Wire(Protocol):
    """A connection: `collector.wire.RedisWire`, or what a test puts in its place."""

    async def exchange(self, commands: bytes, count: int) -> list[Any]:
        """As `RedisWire.exchange`."""
        ...

    def close(self) -> None:
        """Ends it at once."""
        ...


Answered = Callable[[Retry | None], None]
"""Takes what became of a command: None, the server has acknowledged it. It must not raise."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A command that is to be acknowledged."""

    command: bytes
    deadline: float  # in the loop's time
    answered: Answered
    is_over: bool = False  # it was answered, or nobody waits for it any more


class NodeWriter:
    """Carries out commands on one server. Use `run` as a task for as long as it may be used."""

    def __init__(
        self,
        connect: Callable[[], Wire],
        metrics: CollectorMetrics,
        durability: Durability = Durability.SERVER,
    ) -> None:
        """
        Args:
            connect: makes a connection to the server; each is used by one task alone.
            metrics: where batches are counted.
            durability: when a command counts as carried out.
        """
        self._connect = connect
        self._metrics = metrics
        self._durable = _WAIT_UNTIL_DURABLE[durability]
        self._writers = _DURABLE_WRITERS if self._durable else 1
        self._waiting: deque[Waiting] = deque()
        self._in_flight: dict[int, list[Waiting]] = {}  # by writer
        self._filled = asyncio.Event()
        self._failing_since: float | None = None

    def write(self, command: bytes, answered: Answered) -> Waiting:
        """Has the command carried out; `answered` is called, once, when it is known what became of
        it. No future: what wakes a task costs as much as all else here.

        Args:
            command: packed.
            answered: gets None once the server has acknowledged it, as durably as asked for; Retry
                when that took longer than `WAIT_SECONDS`, or the server is full or refuses it. It
                may have been carried out all the same.

        Raises:
            Retry: too many wait already.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise Retry("overload", "too many requests wait for Redis")
        waiting = Waiting(command, asyncio.get_running_loop().time() + WAIT_SECONDS, answered)
        self._waiting.append(waiting)
        self._filled.set()
        return waiting

    @property
    def failing_since(self) -> float | None:
        """Since when, in the loop's time, no write has succeeded; None when the last one did."""
        return self._failing_since

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be acknowledged."""
        return not self._waiting and not self._in_flight

    async def run(self) -> None:
        """Writes what gathers, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for writer in range(self._writers):
                tasks.create_task(self._write_what_gathers(writer))
            tasks.create_task(self._refuse_what_waits_too_long())

    async def _write_what_gathers(self, writer: int) -> None:
        wire = self._connect()
        try:
            while True:
                await self._filled.wait()
                batch = self._next_batch()
                if not batch:
                    continue
                self._in_flight[writer] = batch
                left = await self._write(wire, batch)
                del self._in_flight[writer]
                if left:
                    self._waiting.extendleft(reversed(left))  # the oldest in front again
                    self._filled.set()
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            wire.close()

    async def _refuse_what_waits_too_long(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            now = loop.time()
            for queue in (*self._in_flight.values(), self._waiting):
                for waiting in queue:
                    if waiting.deadline > now:
                        break  # each is in the order in which they came
                    _answer(waiting, Retry("redis_away", "Redis did not acknowledge it in time"))

    def _next_batch(self) -> list[Waiting]:
        batch: list[Waiting] = []
        queue = self._waiting
        while queue and len(batch) < MAX_BATCH:
            waiting = queue.popleft()
            if not waiting.is_over:  # else it was refused, or its request went away
                batch.append(waiting)
        if not queue:
            self._filled.clear()
        return batch

    async def _write(self, wire: Wire, batch: list[Waiting]) -> list[Waiting]:
        """Writes a batch; what may be tried again is returned."""
        self._metrics.append_batch_size.observe(len(batch))
        commands = b"".join([waiting.command for waiting in batch]) + self._durable
        try:
            replies = await wire.exchange(commands, len(batch) + bool(self._durable))
        except RedisError as error:
            self._failed(retry_for(error, "appending"))
            self._metrics.append_unanswered.inc(len(batch))
            return self._after(batch, error)
        except Exception as error:  # noqa: BLE001 - the one writer must outlive any fault
            self._failed(Retry("fault", f"appending: {type(error).__name__}"))
            self._metrics.append_unanswered.inc(len(batch))
            return batch
        if self._durable:
            why = why_not_durable(replies.pop())
            if why is not None:
                # It is in the stream, and may be lost with the server: not what a 2xx promises.
                self._failed(why)
                self._metrics.append_unanswered.inc(len(batch))
                for waiting in batch:
                    _answer(waiting, why)
                return []
        return self._settle(batch, replies)

    def _settle(self, batch: list[Waiting], replies: list[Any]) -> list[Waiting]:
        """Tells each request its own reply; what may be tried again is returned."""
        left = []
        for waiting, reply in zip(batch, replies, strict=True):
            if isinstance(reply, RedisError):
                self._failed(retry_for(reply, "appending"))
                left += self._after([waiting], reply)
            else:
                self._failing_since = None
                _answer(waiting, None)
        return left

    def _after(self, batch: list[Waiting], error: RedisError) -> list[Waiting]:
        """What of a failed batch may be tried again: all, or nothing where that is of no use."""
        if is_passing(error):
            return batch
        for waiting in batch:
            _answer(waiting, retry_for(error, "appending"))
        return []

    def _failed(self, why: Retry) -> None:
        if self._failing_since is None:
            self._failing_since = asyncio.get_running_loop().time()
            log.error(
                "sessions can't be written",
                why=str(why),
                to_do="see that Redis is up, has memory left and takes writes",
            )


def why_not_durable(reply: Any) -> Retry | None:
    """What is wrong with an answer to WAITAOF or WAIT, if anything."""
    if isinstance(reply, RedisError):
        return retry_for(reply, "waiting until it is durable (APPEND_DURABILITY)")
    # WAITAOF counts this server's disk and the replicas', WAIT the replicas.
    done = reply[0] if isinstance(reply, list) else reply
    return None if done >= 1 else Retry("not_durable", "it was not made durable in time")


def _answer(waiting: Waiting, error: Retry | None) -> None:
    if waiting.is_over:
        return
    waiting.is_over = True
    try:
        waiting.answered(error)
    except Exception as fault:  # noqa: BLE001 - the one writer must outlive any fault
        log.error(  # noqa: TRY400 - exception() would write a message that may quote the request
            "a request could not be answered; this is a fault in the collector",
            error=type(fault).__name__,
        )
