"""Writes to one Redis server. Records that arrive during a write share the next one."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from redis.exceptions import AskError, RedisError

from collector.buffer.durability import WAIT_UNTIL_DURABLE, Durability, why_not_durable
from collector.buffer.entries import PackedEntry, pack_entries, refusal
from collector.buffer.pending import WAIT_SECONDS, OnResult, PendingRecord
from contract.collector_metrics import CollectorMetrics
from contract.errors import Retry
from runtime.periodic import Outage, repeat
from runtime.redis_client import is_passing, retry_for
from runtime.redis_connection import RedisConnection, pack
from runtime.stopping import Stopping

MAX_BATCH = 512
MAX_WAITING = 2_000
WRITTEN_AGAIN = "sessions are written again"
_PAUSE_SECONDS = 0.1
# How many batches wait at the same time, because a server may sync only once a second.
_DURABLE_WRITERS = 8

# A write is full if it has this many records for each of its shards. Records share entries while a
# quarter of the last writes are full: under load, but not in a short burst. So a primary of a
# cluster, whose writes have very different sizes, decides like a server that gets all records.
_FULL_RECORDS = 2
_LAST_WRITES = 16
_FULL_WRITES = 0.25

log = structlog.get_logger()


Redirect = Callable[[list[PendingRecord], RedisError], list[PendingRecord]]
"""Takes the records that belong to another server according to the error; returns the others."""


class NodeWriter:
    """Appends records on one server. Run `run` as a task while it is in use."""

    def __init__(
        self,
        connect: Callable[[], RedisConnection],
        metrics: CollectorMetrics,
        durability: Durability = Durability.SERVER,
        redirect: Redirect | None = None,
        outage: Outage | None = None,
    ) -> None:
        """
        Args:
            connect: makes a connection to the server. Each is used by one task.
            metrics: counts batches.
            durability: when a record counts as stored.
            redirect: gets failed records; None: they are tried again here.
            outage: of all servers, if there are others; None: of this one.
        """
        self._redirect = redirect
        self._full_writes = 0.0  # the share of the last writes that were full
        self._connect = connect
        self._metrics = metrics
        self._durable = b"".join([pack(*each) for each in WAIT_UNTIL_DURABLE[durability]])
        self._writers = _DURABLE_WRITERS if self._durable else 1
        self._pending: deque[PendingRecord] = deque()
        self._in_flight: dict[int, list[PendingRecord]] = {}  # by writer
        self._filled = asyncio.Event()
        self.failing_since: float | None = None  # in the loop's time
        self._outage = outage or Outage(WRITTEN_AGAIN)

    def write(self, record: bytes, shard: int, on_result: OnResult) -> None:
        """Appends a record; `on_result` is called once, when the result is known. A callback,
        because waking a task for a future costs as much as everything else here.

        Args:
            record: from `contract.record.encode`.
            shard: its shard.
            on_result: gets None once the record is as durable as required. It gets Retry if that
                took longer than `WAIT_SECONDS`, or if the server is full or refuses the record. It
                may be stored nevertheless; a repeat with the same id counts once.

        Raises:
            Retry: too many records are pending.
        """
        if len(self._pending) >= MAX_WAITING:
            raise Retry("overload", "too many requests wait for Redis")
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        self._pending.append(PendingRecord(record, shard, deadline, on_result))
        self._filled.set()

    def put_first(self, others: Iterable[PendingRecord]) -> None:
        """Puts another writer's records before those that are pending here."""
        self._pending.extendleft(reversed([each for each in others if not each.is_over]))
        if self._pending:
            self._filled.set()

    def take_all(self) -> list[PendingRecord]:
        """Removes and returns all pending records. Those of a write under way may be stored."""
        under_way = [pending for batch in self._in_flight.values() for pending in batch]
        self._metrics.append_unanswered.inc(len(under_way))
        pending = [*under_way, *self._pending]
        self._in_flight.clear()
        self._pending.clear()
        self._filled.clear()
        return pending

    def is_slow(self, seconds: float) -> bool:
        """Whether a write has been under way for this long."""
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS - seconds
        return any(batch[0].deadline < deadline for batch in self._in_flight.values())

    @property
    def idle(self) -> bool:
        return not self._pending and not self._in_flight

    async def run(self) -> None:
        """Writes pending records, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for writer in range(self._writers):
                tasks.create_task(self._write_batches(writer))
            tasks.create_task(repeat(self.refuse_overdue, Stopping(), _PAUSE_SECONDS))

    async def _write_batches(self, writer: int) -> None:
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
                    self._pending.extendleft(reversed(left))  # the oldest first again
                    self._filled.set()
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            connection.close()

    async def refuse_overdue(self) -> None:
        """Gives Retry to records that are past their deadline. `run` calls it repeatedly."""
        now = asyncio.get_running_loop().time()
        for queue in (*self._in_flight.values(), self._pending):
            for pending in queue:
                if pending.deadline > now:
                    break  # each queue has the order of arrival
                _finish(pending, Retry("redis_away", "Redis did not acknowledge it in time"))

    def _next_batch(self) -> list[PendingRecord]:
        batch: list[PendingRecord] = []
        queue = self._pending
        while queue and len(batch) < MAX_BATCH:
            pending = queue.popleft()
            if not pending.is_over:  # otherwise it was refused
                batch.append(pending)
        if not queue:
            self._filled.clear()
        return batch

    async def _write(
        self, connection: RedisConnection, batch: list[PendingRecord]
    ) -> list[PendingRecord]:
        """Writes a batch; returns the records that may be tried again."""
        self._metrics.append_batch_size.observe(len(batch))
        is_full = len(batch) >= _FULL_RECORDS * len({pending.shard for pending in batch})
        self._full_writes += (is_full - self._full_writes) / _LAST_WRITES
        entries = pack_entries(batch, together=self._full_writes > _FULL_WRITES)
        packed = b"".join([entry.commands for entry in entries]) + self._durable
        count = sum([entry.replies for entry in entries]) + bool(self._durable)
        left: list[PendingRecord] = []
        try:
            # `_settle` runs as soon as the replies are there. This task might have to wait longer.
            await connection.exchange(
                packed, count, lambda replies: left.extend(self._settle(entries, replies))
            )
        except RedisError as error:
            self._metrics.append_unanswered.inc(len(batch))
            return self._handle(error, batch)
        except Exception as error:  # noqa: BLE001 - the writer must survive any fault
            self.fails(Retry("fault", f"appending: {type(error).__name__}"), batch)
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
                left += self._handle(refused, list(some))
                continue
            if not_durable is None:
                self.works()
                self._outage.works(some[0].shard)
            else:
                # It is in the stream, but not durable enough for a 2xx.
                self.fails(not_durable, some)
                self._metrics.append_unanswered.inc(len(some))
            for pending in some:
                _finish(pending, not_durable)
        return left

    def _handle(self, error: RedisError, batch: list[PendingRecord]) -> list[PendingRecord]:
        """Returns the records of a failed batch that are to be tried again here."""
        if not isinstance(error, AskError):  # AskError and MovedError say where the slot is
            self.fails(retry_for(error, "appending"), batch)
        left = batch if self._redirect is None else self._redirect(batch, error)
        if is_passing(error):
            return left
        for pending in left:
            _finish(pending, retry_for(error, "appending"))
        return []

    def fails(self, why: Retry, batch: Sequence[PendingRecord] = ()) -> None:
        """Notes that this batch, or without one everything, can't be written; logs it at first."""
        # A refusal may concern only its shard. All other errors concern the server.
        refused = bool(batch) and why.reason == "redis_refused"
        failing: set[object] = {each.shard for each in batch} if refused else {self}
        for each in failing:
            self._outage.fails(each)
        if self.failing_since is None:
            self.failing_since = asyncio.get_running_loop().time()
            log.error(
                "sessions can't be written",
                why=str(why),
                to_do="check that Redis is up, has free memory and accepts writes",
            )

    def works(self) -> None:
        self.failing_since = None
        self._outage.works(self)


def _finish(pending: PendingRecord, error: Retry | None) -> None:
    if pending.is_over:
        return
    pending.is_over = True
    try:
        pending.on_result(error)
    except Exception as fault:  # noqa: BLE001 - the writer must survive any fault
        log.error(  # noqa: TRY400 - exception() would log a message that may quote the request
            "a request could not be answered; this is a fault in the collector",
            error=type(fault).__name__,
        )
