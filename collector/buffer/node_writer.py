"""Writes to one Redis server: what gathers while a write is on its way shares the next one.

Only its own tasks touch the connections, so that a request that goes away can't.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import structlog
from redis.exceptions import AskError, RedisError

from collector.buffer.durability import WAIT_UNTIL_DURABLE, Durability, why_not_durable
from collector.buffer.entries import EntryPacker, PackedEntry, refusal
from collector.buffer.waiting import WAIT_SECONDS, Answered, Waiting
from contract.errors import Retry
from contract.metrics import CollectorMetrics
from runtime.outage import Outage
from runtime.periodic import repeat
from runtime.redis_client import is_passing, retry_for
from runtime.redis_connection import pack
from runtime.stopping import Stopping

MAX_BATCH = 512
MAX_WAITING = 2_000
WRITTEN_AGAIN = "sessions are written again"
_PAUSE_SECONDS = 0.1
# A server that syncs once a second acknowledges once a second: several batches wait together.
_DURABLE_WRITERS = 8

# Records share entries while a quarter of the last writes have so many for each shard that they go
# to: a burst is not load, and until Redis is busy an entry a record is simpler to look at. So a
# primary of a cluster, which gets a part of the records, in writes of very different sizes, does as
# one server that gets all.
_TOGETHER_FROM = 2
_LAST_WRITES = 16
_FULL_WRITES = 0.25

log = structlog.get_logger()


class Wire(Protocol):
    """A connection: `RedisConnection`, or what a test puts in its place."""

    async def exchange(
        self, commands: bytes, count: int, take: Callable[[list[Any]], None] | None = None
    ) -> list[Any]:
        """As `RedisConnection.exchange`."""
        ...

    def close(self) -> None:
        """Ends it at once."""
        ...


Redirect = Callable[[list[Waiting], RedisError], list[Waiting]]
"""Takes over what another server may have to append, by the error; returns what stays here."""


class NodeWriter:
    """Appends records on one server. Use `run` as a task for as long as it may be used."""

    def __init__(
        self,
        connect: Callable[[], Wire],
        metrics: CollectorMetrics,
        durability: Durability = Durability.SERVER,
        redirect: Redirect | None = None,
        outage: Outage | None = None,
        *,
        asking: bool = False,
    ) -> None:
        """
        Args:
            connect: makes a connection to the server; each is used by one task alone.
            metrics: where batches are counted.
            durability: when a record counts as stored.
            redirect: what becomes of a record that failed; None: it is tried again here.
            outage: of all shards, of which other servers may have some; None: this one has all.
            asking: as `EntryPacker`'s.
        """
        self._redirect = redirect
        self._packer = EntryPacker(asking=asking)
        self._full_writes = 0.0  # of the last, as a share
        self._connect = connect
        self._metrics = metrics
        self._durable = b"".join([pack(*each) for each in WAIT_UNTIL_DURABLE[durability]])
        self._writers = _DURABLE_WRITERS if self._durable else 1
        self._waiting: deque[Waiting] = deque()
        self._in_flight: dict[int, list[Waiting]] = {}  # by writer
        self._filled = asyncio.Event()
        self._failing_since: float | None = None
        self._outage = outage or Outage(WRITTEN_AGAIN)

    def write(self, record: bytes, shard: int, answered: Answered) -> Waiting:
        """Appends a record; `answered` is called, once, when it is known what became of it. No
        future: what wakes a task costs as much as all else here.

        Args:
            record: from `contract.record.encode`.
            shard: that it goes to.
            answered: gets None once the server has acknowledged it, as durably as asked for; Retry
                when that took longer than `WAIT_SECONDS`, or the server is full or refuses it. It
                may have been stored all the same.

        Raises:
            Retry: too many wait already.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise Retry("overload", "too many requests wait for Redis")
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        waiting = Waiting(record, shard, deadline, answered)
        self._waiting.append(waiting)
        self._filled.set()
        return waiting

    def take_over(self, others: Iterable[Waiting]) -> None:
        """Appends what waited elsewhere, before what waits here."""
        self._waiting.extendleft(reversed([each for each in others if not each.is_over]))
        if self._waiting:
            self._filled.set()

    def give_up(self) -> list[Waiting]:
        """Hands out all that waits, also what is on its way: it may be stored all the same."""
        under_way = [waiting for batch in self._in_flight.values() for waiting in batch]
        self._metrics.append_unanswered.inc(len(under_way))
        waiting = [*under_way, *self._waiting]
        self._in_flight.clear()
        self._waiting.clear()
        self._filled.clear()
        return waiting

    def is_slow(self, seconds: float) -> bool:
        """Whether something has been on its way for so long."""
        longest = asyncio.get_running_loop().time() + WAIT_SECONDS - seconds
        return any(batch[0].deadline < longest for batch in self._in_flight.values())

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
            refusing = repeat(self.refuse_what_waits_too_long, Stopping(), _PAUSE_SECONDS)
            tasks.create_task(refusing)

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
                self._in_flight.pop(writer, None)
                if left:
                    self._waiting.extendleft(reversed(left))  # the oldest in front again
                    self._filled.set()
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            wire.close()

    async def refuse_what_waits_too_long(self) -> None:
        """Answers what has waited for `WAIT_SECONDS`; again and again, as a part of `run`."""
        now = asyncio.get_running_loop().time()
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
        is_full = len(batch) >= _TOGETHER_FROM * len({waiting.shard for waiting in batch})
        self._full_writes += (is_full - self._full_writes) / _LAST_WRITES
        entries = self._packer.pack(batch, together=self._full_writes > _FULL_WRITES)
        packed = b"".join([entry.commands for entry in entries]) + self._durable
        count = sum([entry.replies for entry in entries]) + bool(self._durable)
        left: list[Waiting] = []
        try:
            # Answered at once: by the time of this task's turn there may be requests to examine.
            await wire.exchange(
                packed, count, lambda replies: left.extend(self._settle(entries, replies))
            )
        except RedisError as error:
            self._metrics.append_unanswered.inc(len(batch))
            return self._after(batch, error)
        except Exception as error:  # noqa: BLE001 - the one writer must outlive any fault
            self._fails(Retry("fault", f"appending: {type(error).__name__}"), batch)
            self._metrics.append_unanswered.inc(len(batch))
            return batch
        return left

    def _settle(self, entries: Sequence[PackedEntry], replies: Sequence[Any]) -> list[Waiting]:
        """Tells each request what became of its entry; what may be tried again is returned."""
        not_durable = why_not_durable(replies[-1]) if self._durable else None
        left = []
        first = 0
        for some, _, count in entries:
            end = first + count
            refused = refusal(replies[first:end])
            first = end
            if refused is not None:
                left += self._after(list(some), refused)
                continue
            if not_durable is None:
                self._failing_since = None
                self._outage.works(self)
                self._outage.works(some[0].shard)
            else:
                # It is in the stream, and may be lost with the server: not what a 2xx promises.
                self._fails(not_durable, some)
                self._metrics.append_unanswered.inc(len(some))
            for waiting in some:
                _answer(waiting, not_durable)
        return left

    def _after(self, batch: list[Waiting], error: RedisError) -> list[Waiting]:
        """What of a failed batch is to be tried again here; what is of no use fails."""
        if not isinstance(error, AskError):  # which says where it is instead
            self._fails(retry_for(error, "appending"), batch)
        left = batch if self._redirect is None else self._redirect(batch, error)
        if is_passing(error):
            return left
        for waiting in left:
            _answer(waiting, retry_for(error, "appending"))
        return []

    def _fails(self, why: Retry, batch: Sequence[Waiting]) -> None:
        # A refusal may be of its shard alone, and is not over when another is written. All else is
        # of the server.
        whats: set[object] = {self}
        if why.reason == "redis_refused":
            whats = {waiting.shard for waiting in batch}
        for what in whats:
            self._outage.fails(what)
        self.fails(why)

    def fails(self, why: Retry) -> None:
        """Notes, and says once, that nothing can be written."""
        if self._failing_since is None:
            self._failing_since = asyncio.get_running_loop().time()
            log.error(
                "sessions can't be written",
                why=str(why),
                to_do="see that Redis is up, has memory left and takes writes",
            )

    def works(self) -> None:
        """Notes that nothing keeps it from writing any more."""
        self._failing_since = None


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
