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
from collector.buffer.pending import WAIT_SECONDS, OnResult, PendingRecord
from contract.collector_metrics import CollectorMetrics
from contract.errors import Retry
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


class Connection(Protocol):
    """A connection: `RedisConnection`, or what a test puts in its place."""

    async def exchange(
        self, commands: bytes, count: int, take: Callable[[list[Any]], None] | None = None
    ) -> list[Any]:
        """As `RedisConnection.exchange`."""
        ...

    def close(self) -> None:
        """Ends it at once."""
        ...


Redirect = Callable[[list[PendingRecord], RedisError], list[PendingRecord]]
"""Takes over the records that, by the error, belong to another server; returns the others."""


class NodeWriter:
    """Appends records on one server. Run `run` as a task while it is in use."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        metrics: CollectorMetrics,
        durability: Durability = Durability.SERVER,
        redirect: Redirect | None = None,
        outage: Outage | None = None,
        *,
        asking: bool = False,
    ) -> None:
        """
        Args:
            connect: makes a connection to the server; only one task uses each connection.
            metrics: where batches are counted.
            durability: when a record counts as stored.
            redirect: gets the records that failed; None: they are tried again here.
            outage: that of all shards, if other servers have some; None: this server has all.
            asking: as in `EntryPacker`.
        """
        self._redirect = redirect
        self._packer = EntryPacker(asking=asking)
        self._full_writes = 0.0  # of the last, as a share
        self._connect = connect
        self._metrics = metrics
        self._durable = b"".join([pack(*each) for each in WAIT_UNTIL_DURABLE[durability]])
        self._writers = _DURABLE_WRITERS if self._durable else 1
        self._pending: deque[PendingRecord] = deque()
        self._in_flight: dict[int, list[PendingRecord]] = {}  # by writer
        self._filled = asyncio.Event()
        self._failing_since: float | None = None
        self._outage = outage or Outage(WRITTEN_AGAIN)

    def write(self, record: bytes, shard: int, on_result: OnResult) -> PendingRecord:
        """Appends a record; `on_result` is called once, when the result is known. This is not a
        future, because waking a task costs as much as everything else here.

        Args:
            record: from `contract.record.encode`.
            shard: the shard that it goes to.
            on_result: gets None once the server has acknowledged the record as durably as asked
                for. It gets Retry if that took longer than `WAIT_SECONDS`, or if the server is
                full or refuses it. The record may have been stored nevertheless.

        Raises:
            Retry: too many records wait already.
        """
        if len(self._pending) >= MAX_WAITING:
            raise Retry("overload", "too many requests wait for Redis")
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        pending = PendingRecord(record, shard, deadline, on_result)
        self._pending.append(pending)
        self._filled.set()
        return pending

    def take_over(self, others: Iterable[PendingRecord]) -> None:
        """Appends records that waited elsewhere, before those that wait here."""
        self._pending.extendleft(reversed([each for each in others if not each.is_over]))
        if self._pending:
            self._filled.set()

    def give_up(self) -> list[PendingRecord]:
        """Returns all waiting records, also those that were sent and may be stored nevertheless."""
        under_way = [pending for batch in self._in_flight.values() for pending in batch]
        self._metrics.append_unanswered.inc(len(under_way))
        pending = [*under_way, *self._pending]
        self._in_flight.clear()
        self._pending.clear()
        self._filled.clear()
        return pending

    def is_slow(self, seconds: float) -> bool:
        """Whether a write has been under way for this long."""
        longest = asyncio.get_running_loop().time() + WAIT_SECONDS - seconds
        return any(batch[0].deadline < longest for batch in self._in_flight.values())

    @property
    def failing_since(self) -> float | None:
        """Since when, in the loop's time, no write has succeeded; None if the last one did."""
        return self._failing_since

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be acknowledged."""
        return not self._pending and not self._in_flight

    async def run(self) -> None:
        """Writes the waiting records, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for writer in range(self._writers):
                tasks.create_task(self._write_what_gathers(writer))
            refusing = repeat(self.refuse_what_waits_too_long, Stopping(), _PAUSE_SECONDS)
            tasks.create_task(refusing)

    async def _write_what_gathers(self, writer: int) -> None:
        connection = self._connect()
        try:
            while True:
                await self._filled.wait()
                batch = self._next_batch()
                if not batch:
                    continue
                self._in_flight[writer] = batch
                left = await self._write(connection, batch)
                self._in_flight.pop(writer, None)
                if left:
                    self._pending.extendleft(reversed(left))  # the oldest in front again
                    self._filled.set()
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            connection.close()

    async def refuse_what_waits_too_long(self) -> None:
        """Answers records that have waited for `WAIT_SECONDS`; `run` calls it repeatedly."""
        now = asyncio.get_running_loop().time()
        for queue in (*self._in_flight.values(), self._pending):
            for pending in queue:
                if pending.deadline > now:
                    break  # each queue is in the order of arrival
                _answer(pending, Retry("redis_away", "Redis did not acknowledge it in time"))

    def _next_batch(self) -> list[PendingRecord]:
        batch: list[PendingRecord] = []
        queue = self._pending
        while queue and len(batch) < MAX_BATCH:
            pending = queue.popleft()
            if not pending.is_over:  # otherwise it was refused, or its request has ended
                batch.append(pending)
        if not queue:
            self._filled.clear()
        return batch

    async def _write(
        self, connection: Connection, batch: list[PendingRecord]
    ) -> list[PendingRecord]:
        """Writes a batch; returns the records that may be tried again."""
        self._metrics.append_batch_size.observe(len(batch))
        is_full = len(batch) >= _TOGETHER_FROM * len({pending.shard for pending in batch})
        self._full_writes += (is_full - self._full_writes) / _LAST_WRITES
        entries = self._packer.pack(batch, together=self._full_writes > _FULL_WRITES)
        packed = b"".join([entry.commands for entry in entries]) + self._durable
        count = sum([entry.replies for entry in entries]) + bool(self._durable)
        left: list[PendingRecord] = []
        try:
            # Requests are answered at once: this task's next turn may come after other requests.
            await connection.exchange(
                packed, count, lambda replies: left.extend(self._settle(entries, replies))
            )
        except RedisError as error:
            self._metrics.append_unanswered.inc(len(batch))
            return self._after(batch, error)
        except Exception as error:  # noqa: BLE001 - the only writer must survive any fault
            self._fails(Retry("fault", f"appending: {type(error).__name__}"), batch)
            self._metrics.append_unanswered.inc(len(batch))
            return batch
        return left

    def _settle(
        self, entries: Sequence[PackedEntry], replies: Sequence[Any]
    ) -> list[PendingRecord]:
        """Gives each record its result; returns the records that may be tried again."""
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
                # It is in the stream, but may be lost with the server: a 2xx promises more.
                self._fails(not_durable, some)
                self._metrics.append_unanswered.inc(len(some))
            for pending in some:
                _answer(pending, not_durable)
        return left

    def _after(self, batch: list[PendingRecord], error: RedisError) -> list[PendingRecord]:
        """The records of a failed batch that are to be tried again here; the others fail."""
        if not isinstance(error, AskError):  # this error says where the slot is
            self._fails(retry_for(error, "appending"), batch)
        left = batch if self._redirect is None else self._redirect(batch, error)
        if is_passing(error):
            return left
        for pending in left:
            _answer(pending, retry_for(error, "appending"))
        return []

    def _fails(self, why: Retry, batch: Sequence[PendingRecord]) -> None:
        # A refusal may concern only its shard, and is not over when another shard is written. All
        # other errors concern the server.
        whats: set[object] = {self}
        if why.reason == "redis_refused":
            whats = {pending.shard for pending in batch}
        for what in whats:
            self._outage.fails(what)
        self.fails(why)

    def fails(self, why: Retry) -> None:
        """Notes, and logs once, that nothing can be written."""
        if self._failing_since is None:
            self._failing_since = asyncio.get_running_loop().time()
            log.error(
                "sessions can't be written",
                why=str(why),
                to_do="see that Redis is up, has memory left and accepts writes",
            )

    def works(self) -> None:
        """Notes that it can write again."""
        self._failing_since = None


def _answer(pending: PendingRecord, error: Retry | None) -> None:
    if pending.is_over:
        return
    pending.is_over = True
    try:
        pending.on_result(error)
    except Exception as fault:  # noqa: BLE001 - the only writer must survive any fault
        log.error(  # noqa: TRY400 - exception() would write a message that may quote the request
            "a request could not be answered; this is a fault in the collector",
            error=type(fault).__name__,
        )
