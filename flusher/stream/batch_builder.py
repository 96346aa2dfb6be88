"""Builds a batch: reads and decodes entries."""

import asyncio
import math
from typing import Final

from contract.calendar import Month, month_at
from flusher.rows.batch import Batch, Entry, decode_entries
from flusher.server_time import ServerTime
from flusher.stream.read import StreamReader
from flusher.worker_settings import WorkerSettings
from runtime.periodic import Interval

# A batch is full before `max_rows`: otherwise its rest would be read in ever smaller portions.
_FULL: Final = 7 / 8
# The part of `max_rows` that is read at once, in entries. Each may hold 32 records.
_READ_AT_ONCE: Final = 1 / 8
_DECODED_AT_ONCE: Final = 1000


class BatchBuilder:
    """The entries that were read and wait to be written."""

    def __init__(
        self, reader: StreamReader, server_time: ServerTime, settings: WorkerSettings
    ) -> None:
        self._reader = reader
        self._server_time = server_time
        self._zone = settings.zone
        self._max_rows = settings.max_rows
        self._claiming = Interval(settings.claim_seconds / 4)
        self._batch = Batch()
        self._left: list[Entry] = []
        self._records_per_entry = 1.0  # of the entries that were read last

    @property
    def size(self) -> int:
        """The number of its records, and of its entries that could not be decoded or written."""
        return self._batch.records + len(self._batch.broken) + len(self._left)

    @property
    def is_full(self) -> bool:
        return self.size >= self._max_rows * _FULL

    @property
    def latest(self) -> Month:
        """The latest month that an event may have, by the servers' clocks."""
        return month_at(self._server_time.latest_us(), self._zone).plus(1)

    async def fill(self) -> None:
        """Reads and decodes entries, evenly from the shards, at most as many as have room.

        Raises:
            Retry: Redis does not answer; or PostgreSQL has never answered, so that the months of
                entries could not be checked.
            Misconfigured: PostgreSQL refuses the user or the database, also if there is no entry.
        """
        await self._server_time.look()
        if self._claiming.is_over and self._room > 0:
            await self._add(await self._reader.claim(self._room))
            self._claiming.begin()
        if self._room > 0:
            await self._add(await self._reader.read(self._room))

    def take(self) -> Batch:
        """Returns the batch. Entries that could not be written before come first."""
        latest = self.latest if self._left else None
        batch, self._batch = self._batch, Batch()
        if latest is not None:
            batch = decode_entries([*self._left, *batch.entries, *batch.broken], latest)
            self._left = []
        return batch

    def put_back(self, entries: list[Entry]) -> None:
        self._left += entries

    @property
    def _room(self) -> int:
        """How many more entries to read now."""
        room = math.ceil((self._max_rows - self.size) / self._records_per_entry)
        return min(room, math.ceil(self._max_rows * _READ_AT_ONCE))

    async def _add(self, entries: list[Entry]) -> None:
        if not entries:
            return
        self._server_time.stamped(entries)
        batch, before, latest = self._batch, self._batch.records, self.latest
        for first in range(0, len(entries), _DECODED_AT_ONCE):
            batch.add(entries[first : first + _DECODED_AT_ONCE], latest)
            await asyncio.sleep(0)  # the other worker's COPY may wait for its turn
        self._records_per_entry = max((batch.records - before) / len(entries), 1.0)
