"""Acknowledges, deletes and counts the entries of a batch that PostgreSQL has committed."""

import time

from contract.calendar import SECOND_US
from contract.errors import Retry
from contract.flusher_metrics import FlusherMetrics
from flusher.postgres.write import Written
from flusher.rows.batch import Batch
from flusher.server_time import ServerTime
from flusher.stream.read import StreamReader


class Committed:
    """A worker's batch that is committed and not yet acknowledged, if there is one."""

    def __init__(
        self, reader: StreamReader, metrics: FlusherMetrics, server_time: ServerTime
    ) -> None:
        self._reader = reader
        self._metrics = metrics
        self._server_time = server_time
        self._batch = Batch()
        self._written = Written()
        self._was_unanswered = False

    @property
    def entries(self) -> int:
        """How many entries wait for their acknowledgement."""
        return len(self._batch.entries)

    def add(self, batch: Batch, written: Written) -> None:
        """Takes a batch that was committed just now. The one before must be acknowledged."""
        self._batch, self._written, self._was_unanswered = batch, written, False

    async def acknowledge(self) -> None:
        """Acknowledges, deletes and counts the entries of the batch.

        Raises:
            Retry: Redis does not answer; the batch is kept for the next call.
        """
        batch = self._batch
        if not batch.entries:
            return
        accepted = batch.records - len(batch.notices)
        started = time.perf_counter()
        try:
            deleted = await self._reader.acknowledge(batch.accepted)
            await self._reader.acknowledge(batch.notices)
        except Retry:
            self._was_unanswered = True
            self._metrics.acknowledge_unanswered.inc(accepted)
            raise
        self._batch = Batch()
        seconds = time.perf_counter() - started
        self._metrics.flush_seconds.labels("acknowledge").observe(seconds)
        # Records that another flusher has deleted are counted there. But after a lost answer
        # this flusher has most likely deleted them itself.
        self._count(batch, 0 if self._was_unanswered else accepted - deleted)

    def _count(self, batch: Batch, others: int) -> None:
        """Counts a batch, without the records that other flushers have deleted."""
        metrics, written = self._metrics, self._written
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
        if batch.oldest_us is not None:
            age_us = self._server_time.now_us() - batch.oldest_us
            metrics.end_to_end_seconds.observe(max(age_us / SECOND_US, 0.0))
