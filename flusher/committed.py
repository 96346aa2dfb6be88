"""Acknowledges, deletes and counts the entries of batches that are committed to PostgreSQL."""

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
class _One:
    """A batch, and whether an acknowledgement of it got no answer."""

    batch: Batch
    written: Written
    was_unanswered: bool = False


class Committed:
    """A worker's committed batches, in the order of their commits."""

    def __init__(
        self, reader: StreamReader, metrics: FlusherMetrics, server_time: ServerTime
    ) -> None:
        """The arguments are the worker's."""
        self._reader = reader
        self._metrics = metrics
        self._server_time = server_time
        self._batches: list[_One] = []

    def __bool__(self) -> bool:
        return bool(self._batches)

    @property
    def entries(self) -> int:
        """The number of their entries."""
        return sum(len(each.batch.entries) for each in self._batches)

    def add(self, batch: Batch, written: Written) -> None:
        """Adds a committed batch, whose entries only have to be acknowledged."""
        self._batches.append(_One(batch, written))

    async def acknowledge(self) -> None:
        """Acknowledges, deletes and counts the entries.

        Raises:
            Retry: Redis does not answer; the rest is kept for the next call.
        """
        while self._batches:
            first = self._batches[0]
            batch = first.batch
            accepted = batch.records - len(batch.notices)
            started = time.perf_counter()
            try:
                ended = await self._reader.acknowledge(batch.accepted)
                await self._reader.acknowledge(batch.notices)
            except Retry:
                first.was_unanswered = True
                self._metrics.acknowledge_unanswered.inc(accepted)
                raise
            self._batches.pop(0)
            seconds = time.perf_counter() - started
            self._metrics.flush_seconds.labels("acknowledge").observe(seconds)
            # What another flusher ended, it counted: so each entry is counted once. Except when an
            # answer was lost: then it was most likely this one's.
            self._count(first, 0 if first.was_unanswered else accepted - ended)

    def _count(self, one: _One, others: int) -> None:
        """Counts a batch, without the entries that other flushers have deleted."""
        metrics, written = self._metrics, one.written
        metrics.upgrades_of_another_user.inc(written.upgrades_of_others)
        counts = (
            (metrics.duplicate.labels("session"), written.duplicate_sessions),
            (metrics.duplicate.labels("upgrade"), written.duplicate_upgrades),
            (metrics.written.labels("session"), written.sessions),
            (metrics.written.labels("upgrade"), written.upgrades),
        )
        for counter, events in counts:
            # What this flusher found known is what another stored.
            counted = max(events - others, 0)
            others -= events - counted
            counter.inc(counted)
        if one.batch.oldest_us is not None:
            age_us = self._server_time.now_us() - one.batch.oldest_us
            metrics.end_to_end_seconds.observe(max(age_us / SECOND_US, 0.0))
