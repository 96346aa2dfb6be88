"""Step 7: the event into its stream, durable when this returns.

Requests that arrive together share one write: while one is on its way, the next gathers. Only
this module's own task touches the connection, so that a request that goes away can't.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from collector.waiting import WAIT_SECONDS
from contract import keys
from contract.errors import Retry
from contract.metrics import CollectorMetrics
from contract.record import FIELD
from process.redis_client import is_passing, retry_for

MAX_BATCH = 512
MAX_WAITING = 2_000
_PAUSE_SECONDS = 0.1

log = structlog.get_logger()


class Durability(StrEnum):
    """What Redis must have done before a record counts as stored (`APPEND_DURABILITY`)."""

    SERVER = "server"  # acknowledged the command: as durable as its appendfsync makes it
    FSYNC = "fsync"  # WAITAOF: its append-only file is on disk (Redis 7.2, Valkey 8)
    REPLICA = "replica"  # WAIT: a replica has it


# Milliseconds. Less than a command may take, so that the server's answer comes first.
_DURABLE_MS = 3000
# A server that syncs once a second acknowledges once a second: several batches wait together.
_DURABLE_WRITERS = 8


@dataclass(slots=True, eq=False)
class _Append:
    stream: str
    record: bytes
    deadline: float
    stored: asyncio.Future[None]


class Appender:
    """Appends records to the stream shards. Use `run` as a task for as long as it may be used."""

    def __init__(
        self,
        redis: Redis,
        shards: int,
        metrics: CollectorMetrics,
        durability: Durability = Durability.SERVER,
    ) -> None:
        self._redis = redis
        self._durability = durability
        self._streams = [keys.stream(shard) for shard in range(shards)]
        self._metrics = metrics
        self._waiting: deque[_Append] = deque()
        self._in_flight: dict[int, list[_Append]] = {}  # by writer
        self._filled = asyncio.Event()
        self._failing_since: float | None = None

    async def append(self, identity: bytes, record: bytes) -> None:
        """Returns once Redis has acknowledged the record.

        Args:
            identity: the 16 bytes that choose the shard.
            record: from `contract.record.encode`.

        Raises:
            Retry: it was not acknowledged within `WAIT_SECONDS`, Redis is full or refuses it, or
                too many wait already. It may have been stored all the same; a repeat with the
                same id counts once.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise Retry("overload", "too many requests wait for Redis")
        loop = asyncio.get_running_loop()
        stream = self._streams[keys.shard_of(identity, len(self._streams))]
        waiting = _Append(stream, record, loop.time() + WAIT_SECONDS, loop.create_future())
        self._waiting.append(waiting)
        self._filled.set()
        await waiting.stored

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
            for writer in range(1 if self._durability is Durability.SERVER else _DURABLE_WRITERS):
                tasks.create_task(self._write_what_gathers(writer))
            tasks.create_task(self._refuse_what_waits_too_long())

    async def _write_what_gathers(self, writer: int) -> None:
        while True:
            await self._filled.wait()
            batch = self._next_batch()
            if not batch:
                continue
            self._in_flight[writer] = batch
            left = await self._write(batch)
            del self._in_flight[writer]
            if left:
                self._waiting.extendleft(reversed(left))  # the oldest in front again
                self._filled.set()
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _refuse_what_waits_too_long(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            now = loop.time()
            for queue in (*self._in_flight.values(), self._waiting):
                for waiting in queue:
                    if waiting.deadline > now:
                        break  # each is in the order in which they came
                    _fail(waiting, Retry("redis_away", "Redis did not acknowledge it in time"))

    def _next_batch(self) -> list[_Append]:
        batch: list[_Append] = []
        while self._waiting and len(batch) < MAX_BATCH:
            waiting = self._waiting.popleft()
            if not waiting.stored.done():  # else it was refused, or its request went away
                batch.append(waiting)
        if not self._waiting:
            self._filled.clear()
        return batch

    async def _write(self, batch: list[_Append]) -> list[_Append]:
        """Writes a batch; what may be tried again is returned."""
        self._metrics.append_batch_size.observe(len(batch))
        try:
            replies = await self._pipeline(batch).execute(raise_on_error=False)
        except RedisError as error:
            self._failed(retry_for(error, "appending"))
            self._metrics.append_unanswered.inc(len(batch))
            return self._after(batch, error)
        except Exception as error:  # noqa: BLE001 - the one writer must outlive any fault
            self._failed(Retry("fault", f"appending: {type(error).__name__}"))
            self._metrics.append_unanswered.inc(len(batch))
            return batch
        if self._durability is not Durability.SERVER:
            why = why_not_durable(replies.pop())
            if why is not None:
                # It is in the stream, and may be lost with the server: not what a 2xx promises.
                self._failed(why)
                self._metrics.append_unanswered.inc(len(batch))
                for waiting in batch:
                    _fail(waiting, why)
                return []
        return self._settle(batch, replies)

    def _pipeline(self, batch: list[_Append]) -> Pipeline:
        pipeline = self._redis.pipeline(transaction=False)
        for waiting in batch:
            pipeline.execute_command("XADD", waiting.stream, "*", FIELD, waiting.record)
        if self._durability is Durability.FSYNC:
            pipeline.execute_command("WAITAOF", 1, 0, _DURABLE_MS)
        elif self._durability is Durability.REPLICA:
            pipeline.execute_command("WAIT", 1, _DURABLE_MS)
        return pipeline

    def _settle(self, batch: list[_Append], replies: list[Any]) -> list[_Append]:
        """Tells each request its own reply; what may be tried again is returned."""
        left = []
        for waiting, reply in zip(batch, replies, strict=True):
            if isinstance(reply, RedisError):
                self._failed(retry_for(reply, "appending"))
                left += self._after([waiting], reply)
            else:
                self._failing_since = None
                if not waiting.stored.done():
                    waiting.stored.set_result(None)
        return left

    def _after(self, batch: list[_Append], error: RedisError) -> list[_Append]:
        """What of a failed batch may be tried again: all, or nothing where that is of no use."""
        if is_passing(error):
            return batch
        for waiting in batch:
            _fail(waiting, retry_for(error, "appending"))
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


def _fail(waiting: _Append, error: Retry) -> None:
    if not waiting.stored.done():
        waiting.stored.set_exception(error)
