"""One flusher, and beside it a bare COPY, into the same table of the same server."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from bench.speed.backlog import SHARDS, Backlog, append_backlog
from bench.speed.benchmark import Run, Unsound
from bench.speed.machine import cpu_seconds, resident_mib
from bench.speed.ours import Ours, start_ours
from contract import keys
from embedded.system import Program
from flusher.rows.copy_format import COLUMNS

BATCH_ROWS: Final = 10_000
# How many records a collector writes at once, on average, at full load from 64 connections
# (`python -m bench collector`).
FULL_LOAD: Final = 32
# Both use one server, with fsync and synchronous_commit on. No checkpoint falls into a run: after a
# checkpoint, the first change of each page logs the whole page. With random ids in a large index,
# that would be nearly one page for each row.
POSTGRES_SETTINGS: Final = {
    "shared_buffers": "2GB",
    "max_wal_size": "24GB",
    "checkpoint_timeout": "1h",
}
SETTINGS_NOTE: Final = f"PostgreSQL has {POSTGRES_SETTINGS}: no checkpoint falls into a run."
RATE: Final = "rows/s"
POSTGRES_CPU: Final = "PostgreSQL's CPU µs/row"
PARTS: Final = ("client's CPU µs/row", POSTGRES_CPU, "Valkey's CPU µs/row")
RESIDENT: Final = "MiB resident"

_POLL_SECONDS: Final = 0.005
_DRAIN_SECONDS: Final = 300.0
_OTHERS_IN_TRANSACTIONS: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
        AND pid <> pg_backend_pid() AND state <> 'idle'
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """The servers, a flusher that is frozen between its turns, and the baseline."""

    ours: Ours
    flusher: Program
    redis: Redis

    async def drain(self, backlog: Backlog, records_a_write: int) -> dict[str, float]:
        """The flusher's turn: from a backlog in the streams to the last acknowledgement.

        `records_a_write` as in `append_backlog`.

        Raises:
            Unsound: the streams were not drained.
        """
        append_backlog(backlog, self.ours.redis[0].port, records_a_write)
        process = self.flusher.running
        began = time.perf_counter()
        with self._measure(process.pid, backlog) as quantities:
            self.flusher.thaw()
            while any([await self.redis.xlen(keys.stream(shard)) for shard in range(SHARDS)]):
                if time.perf_counter() - began > _DRAIN_SECONDS or process.poll() is not None:
                    raise Unsound(f"the streams were not drained:\n{self.flusher.log}")
                await asyncio.sleep(_POLL_SECONDS)
        await self.hold()
        quantities[RESIDENT] = resident_mib(process.pid)
        return quantities

    async def hold(self) -> None:
        """Freezes the flusher when it has no open transaction: its locks would block `empty`."""
        while True:
            self.flusher.freeze()
            if not await self.ours.database.fetchval(_OTHERS_IN_TRANSACTIONS):
                return
            self.flusher.thaw()
            await asyncio.sleep(_POLL_SECONDS)

    async def copy(self, backlog: Backlog) -> dict[str, float]:
        """The baseline's turn: the final rows, a COPY for each batch."""
        with self._measure(os.getpid(), backlog) as quantities:
            for first in range(0, len(backlog.rows), BATCH_ROWS):
                rows = backlog.rows[first : first + BATCH_ROWS]
                columns = (*COLUMNS, "upgraded_at")
                await self.ours.database.copy_records_to_table(
                    "sessions", records=rows, columns=columns
                )
        return quantities

    async def check_rows(self, *backlogs: Backlog) -> int:
        """Checks that the sessions of backlogs are stored and upgraded; a hash of all columns.

        Raises:
            Unsound: they are not.
        """
        ids = [row[0] for backlog in backlogs for row in backlog.rows]
        wanted = len(ids), sum(backlog.upgraded for backlog in backlogs)
        (row,) = await self.ours.database.fetch(
            "SELECT count(*), count(upgraded_at), coalesce(sum(hashtextextended(s::text, 0)), 0) "
            "FROM sessions s WHERE id = ANY ($1::uuid[])",
            ids,
        )
        if tuple(row[:2]) != wanted:
            raise Unsound(f"{row[0]} rows, {row[1]} upgraded, of {wanted[0]} and {wanted[1]}")
        return int(row[2])

    async def empty(self) -> None:
        """Deletes all rows, so that the next turn begins as this one did."""
        await self.ours.database.execute(
            "TRUNCATE sessions, flusher.upgrades, flusher.count_changes, flusher.counts, "
            "flusher.quality_counts, flusher.sign_in_digests"
        )
        await self.ours.database.execute("CHECKPOINT")

    @contextmanager
    def _measure(self, client: int, backlog: Backlog) -> Iterator[dict[str, float]]:
        """Adds the rate of the rows, and the CPU time of the client and of the servers."""
        pids = (client, self.ours.postgres.pid, self.ours.redis[0].pid)
        quantities: dict[str, float] = {}
        before = [cpu_seconds(pid) for pid in pids]
        began = time.perf_counter()
        yield quantities
        seconds = time.perf_counter() - began
        rows = len(backlog.rows)
        quantities[RATE] = rows / seconds
        for quantity, pid, start in zip(PARTS, pids, before, strict=True):
            quantities[quantity] = (cpu_seconds(pid) - start) / rows * 1e6


async def start_bench(run: Run) -> Bench:
    """Starts the servers and a flusher, which is frozen."""
    settings = {
        "FLUSH_MAX_ROWS": str(BATCH_ROWS),
        "FLUSH_MAX_SECONDS": "0.1",
        "STREAM_SHARDS": str(SHARDS),
        "ENDED_MONTHS_KEEP": "instant",  # so that no ended month is rewritten
    }
    ours = await start_ours(run.folder, run.stack, settings, postgres_settings=POSTGRES_SETTINGS)
    redis = await run.stack.enter_async_context(Redis(port=ours.redis[0].port))
    bench = Bench(ours, await ours.start("flusher"), redis)
    await bench.hold()
    return bench
