"""One flusher, and beside it a bare COPY, into the same table of the same server."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
from redis.asyncio import Redis

from bench.speed.backlog import COLUMNS, SHARDS, Backlog, append_backlog
from bench.speed.benchmark import Unsound
from bench.speed.machine import cpu_seconds, resident_mib
from contract import keys
from embedded.postgres import PostgresServer
from embedded.system import Program, System, run_command
from embedded.valkey import ValkeyServer
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database

BATCH_ROWS: Final = 10_000
# How many records a collector writes at once, on average, at full load from 64 connections
# (`python -m bench collector`).
FULL_LOAD: Final = 32
# The same server for both. fsync and synchronous_commit are on. No checkpoint falls into a run:
# after one, the first change of each page logs the whole page, which with random ids in a large
# index is a page a row until each page has been changed once.
POSTGRES_SETTINGS: Final = {
    "shared_buffers": "2GB",
    "max_wal_size": "24GB",
    "checkpoint_timeout": "1h",
}
SETTINGS_NOTE: Final = (
    "PostgreSQL, for both: "
    + ", ".join(f"`{name}` {value}" for name, value in POSTGRES_SETTINGS.items())
    + ", so that no checkpoint falls into a run (after one, with random ids, nearly each row has a "
    "whole page of the index logged, until all have been once)."
)

_POLL_SECONDS: Final = 0.005
_DRAIN_SECONDS: Final = 300.0
_OTHERS_IN_TRANSACTIONS: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
        AND pid <> pg_backend_pid() AND state <> 'idle'
"""


@dataclass(frozen=True, slots=True)
class FlusherRun:
    """One turn. CPU in microseconds a row."""

    rows_per_second: float
    client_us: float
    postgres_us: float
    valkey_us: float
    resident_mib: float

    @property
    def cpu_us(self) -> float:
        return self.client_us + self.postgres_us + self.valkey_us


@dataclass(frozen=True, slots=True)
class Bench:
    """The servers, a flusher that is frozen between its turns, and the baseline."""

    connection: asyncpg.Connection
    dsn: str
    flusher: Program
    postgres: PostgresServer
    valkey: ValkeyServer
    redis: Redis

    async def drain(self, backlog: Backlog, records_a_write: int) -> FlusherRun:
        """The flusher's turn: from a backlog in the streams to the last acknowledgement.

        `records_a_write` as in `append_backlog`.

        Raises:
            Unsound: the streams were not drained.
        """
        append_backlog(backlog, self.valkey.port, records_a_write)
        process = self.flusher.running
        before = self._cpu(process.pid)
        began = time.perf_counter()
        self.flusher.thaw()
        while any([await self.redis.xlen(keys.stream(shard)) for shard in range(SHARDS)]):
            if time.perf_counter() - began > _DRAIN_SECONDS or process.poll() is not None:
                raise Unsound(f"the streams were not drained:\n{self.flusher.log}")
            await asyncio.sleep(_POLL_SECONDS)
        seconds = time.perf_counter() - began
        after = self._cpu(process.pid)
        await self.hold()
        return _run(backlog, seconds, before, after, process.pid)

    async def hold(self) -> None:
        """Freezes the flusher while it has no open transaction, whose locks would block `empty`."""
        while True:
            self.flusher.freeze()
            if not await self.connection.fetchval(_OTHERS_IN_TRANSACTIONS):
                return
            self.flusher.thaw()
            await asyncio.sleep(_POLL_SECONDS)

    async def copy(self, backlog: Backlog) -> FlusherRun:
        """The baseline's turn: the final rows, a COPY for each batch."""
        pid = os.getpid()
        before = self._cpu(pid)
        began = time.perf_counter()
        for first in range(0, len(backlog.rows), BATCH_ROWS):
            rows = backlog.rows[first : first + BATCH_ROWS]
            await self.connection.copy_records_to_table("sessions", records=rows, columns=COLUMNS)
        seconds = time.perf_counter() - began
        return _run(backlog, seconds, before, self._cpu(pid), pid)

    async def differences(self) -> list[str]:
        """Where the kept counts are not those of the sessions."""
        async with Database(self.dsn) as database:
            return await check_counts(database)

    async def digest(self, backlogs: Sequence[Backlog]) -> tuple[int, int, int]:
        """Of the rows of backlogs: how many, how many upgraded, and a hash of all columns."""
        ids = [row[0] for backlog in backlogs for row in backlog.rows]
        (row,) = await self.connection.fetch(
            "SELECT count(*), count(upgraded_at), coalesce(sum(hashtextextended(s::text, 0)), 0) "
            "FROM sessions s WHERE id = ANY ($1::uuid[])",
            ids,
        )
        return int(row[0]), int(row[1]), int(row[2])

    async def empty(self) -> None:
        """Deletes all rows, so that the next turn begins as this one did."""
        await self.connection.execute(
            "TRUNCATE sessions, flusher.upgrades, flusher.count_changes, flusher.counts, "
            "flusher.quality_counts, flusher.sign_in_digests"
        )
        await self.connection.execute("CHECKPOINT")

    def _cpu(self, client: int) -> list[float]:
        return [cpu_seconds(pid) for pid in (client, self.postgres.pid, self.valkey.pid)]


@asynccontextmanager
async def start_bench(folder: Path) -> AsyncIterator[Bench]:
    """Starts the servers and a flusher, which is frozen."""
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(ValkeyServer(folder / "valkey"))
        postgres = PostgresServer(folder / "postgres", settings=POSTGRES_SETTINGS)
        stack.enter_context(postgres)
        redis = await stack.enter_async_context(Redis(port=valkey.port))
        extra = {
            "LOG_LEVEL": "warning",
            "FLUSH_MAX_ROWS": str(BATCH_ROWS),
            "STREAM_SHARDS": str(SHARDS),
            "ENDED_MONTHS_KEEP": "instant",  # months that are over are not rewritten meanwhile
        }
        dsn = postgres.dsn()
        system = stack.enter_context(System(valkey.url, dsn, folder / "logs", extra))
        code, _, errors = await run_command("flusher", "migrate", **system.environment)
        if code:
            raise Unsound(f"the database could not be migrated: {errors}")
        connection = await asyncpg.connect(dsn)
        stack.push_async_callback(connection.close)
        (flusher,) = await system.start("flusher")
        bench = Bench(connection, dsn, flusher, postgres, valkey, redis)
        await bench.hold()
        yield bench


def _run(
    backlog: Backlog, seconds: float, before: list[float], after: list[float], client: int
) -> FlusherRun:
    rows = len(backlog.rows)
    costs = [(late - early) / rows * 1e6 for early, late in zip(before, after, strict=True)]
    own, postgres, valkey = costs
    return FlusherRun(rows / seconds, own, postgres, valkey, resident_mib(client))
