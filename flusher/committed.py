"""Acknowledges, deletes and counts the entries of batches that PostgreSQL has committed."""

import time
from dataclasses import dataclass

from contract.calendar import SECOND_US
from contract.errors import Retry
from contract.flusher_metrics import FlusherMetrics
from flusher.postgres.write import Written
from flusher.rows.batch import Batch
from flusher.server_time import ServerTime
from flusher.stream.read import StreamReader


@dataclass(slots=True)
class _CommittedBatch:
    """A batch, and whether an earlier acknowledgement of it got no answer."""

    batch: Batch
    written: Written
    was_unanswered: bool = False


class Committed:
    """A worker's committed batches, in the order of their commits."""

    def __init__(
        self, reader: StreamReader, metrics: FlusherMetrics, server_time: ServerTime
    ) -> None:
        self._reader = reader
        self._metrics = metrics
        self._server_time = server_time
        self._batches: list[_CommittedBatch] = []

    def __bool__(self) -> bool:
        return bool(self._batches)

    @property
    def entries(self) -> int:
        """How many entries wait for their acknowledgement."""
        return sum(len(each.batch.entries) for each in self._batches)

    def add(self, batch: Batch, written: Written) -> None:
        """Adds a batch that is committed, but not yet acknowledged."""
        self._batches.append(_CommittedBatch(batch, written))

    async def acknowledge(self) -> None:
        """Acknowledges, deletes and counts the entries of all batches.

        Raises:
            Retry: Redis does not answer; the remaining batches are kept for the next call.
        """
        while self._batches:
            first = self._batches[0]
            batch = first.batch
            accepted = batch.records - len(batch.notices)
            started = time.perf_counter()
            try:
                deleted = await self._reader.acknowledge(batch.accepted)
                await self._reader.acknowledge(batch.notices)
            except Retry:
                first.was_unanswered = True
                self._metrics.acknowledge_unanswered.inc(accepted)
                raise
            self._batches.pop(0)
            seconds = time.perf_counter() - started
            self._metrics.flush_seconds.labels("acknowledge").observe(seconds)
            # Records that another flusher has deleted are counted there. But after a lost answer
            # this flusher has most likely deleted them itself.
            self._count(first, 0 if first.was_unanswered else accepted - deleted)

    def _count(self, committed: _CommittedBatch, others: int) -> None:
        """Counts a batch, without the records that other flushers have deleted."""
        metrics, written = self._metrics, committed.written
        metrics.upgrades_of_another_user.inc(written.upgrades_of_others)
        counts = (
            (metrics.duplicate.labels("session"), written.duplicate_sessions),
            (metrics.duplicate.labels("upgrade"), written.duplicate_upgrades),
            (metrics.written.labels("session"), written.sessions),
            (metrics.written.labels("upgrade"), written.upgrades),
        )
        for counter, events in counts:
            # Duplicates come first: another flusher had stored these records before.
            counted = max(events - others, 0)
            others -= events - counted
            counter.inc(counted)
        if committed.batch.oldest_us is not None:
            age_us = self._server_time.now_us() - committed.batch.oldest_us
            metrics.end_to_end_seconds.observe(max(age_us / SECOND_US, 0.0))
