"""One flusher, and beside it a bare COPY, into the same table of the same server."""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import asyncpg
from redis.asyncio import Redis

from bench.speed.backlog import COLUMNS, SHARDS, Backlog, append_backlog, in_batches
from bench.speed.benchmark import Unsound
from bench.speed.machine import cpu_seconds, resident_mib
from contract import keys
from embedded.postgres import PostgresServer
from embedded.system import Program, System, run_command
from embedded.valkey import ValkeyServer
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database

BATCH_ROWS: Final = 10_000
# What a collector that is asked by 64 connections writes at once, in the mean, at its full load:
# `python -m bench collector` says how many they were.
FULL_LOAD: Final = 32
# A server for this load, for both. As safe as it comes: fsync and synchronous_commit are on. No
# checkpoint falls into a run: after one, the first change of each page logs all of it, which with
# random ids in a large index is a page a row until all have been touched once.
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

_LOOK_SECONDS: Final = 0.005
_OTHERS_IN_TRANSACTIONS: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
        AND pid <> pg_backend_pid() AND state <> 'idle'
"""
_DRAIN_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class FlusherRun:
    """What a turn came to. CPU in microseconds a row."""

    rows_per_second: float
    client_us: float
    postgres_us: float
    valkey_us: float
    resident_mib: float


class Bench(AsyncExitStack):
    """The servers, a flusher that is held while there is nothing to measure, and its baseline."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._valkey = ValkeyServer(folder / "valkey")
        self._postgres = PostgresServer(folder / "postgres", settings=POSTGRES_SETTINGS)
        self._flusher: Program

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            await self._start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def _start(self) -> None:
        self.enter_context(self._valkey)
        self.enter_context(self._postgres)
        self._redis = Redis(port=self._valkey.port)
        self.push_async_callback(self._redis.aclose)
        extra = {
            "LOG_LEVEL": "warning",
            "FLUSH_MAX_ROWS": str(BATCH_ROWS),
            "STREAM_SHARDS": str(SHARDS),
        }
        system = System(self._valkey.url, self._postgres.dsn(), self._folder / "logs", extra)
        self.enter_context(system)
        code, _, errors = await run_command("flusher", "migrate", **system.environment)
        if code:
            raise RuntimeError(f"it could not be migrated:\n{errors}")
        self._connection = await asyncpg.connect(self._postgres.dsn())
        self.push_async_callback(self._connection.close)
        (self._flusher,) = await system.start("flusher")
        await self._hold()

    async def drain(self, backlog: Backlog, records_a_write: int) -> FlusherRun:
        """The flusher's turn: from a backlog in the streams to the last acknowledgement.

        `records_a_write` as in `append_backlog`.

        Raises:
            Unsound: the streams were not drained.
        """
        append_backlog(backlog, self._valkey.port, records_a_write)
        process = self._flusher.running
        before = self._cpu()
        began = time.perf_counter()
        self._flusher.thaw()
        while any([await self._redis.xlen(keys.stream(shard)) for shard in range(SHARDS)]):
            if time.perf_counter() - began > _DRAIN_SECONDS or process.poll() is not None:
                raise Unsound(f"the streams were not drained:\n{self._flusher.log}")
            await asyncio.sleep(_LOOK_SECONDS)
        seconds = time.perf_counter() - began
        after = self._cpu()
        await self._hold()
        costs = _costs(before, after, backlog)
        return FlusherRun(len(backlog.rows) / seconds, *costs, resident_mib(process.pid))

    async def _hold(self) -> None:
        """Freezes the flusher while it has no transaction open: its locks would bar `empty`."""
        while True:
            self._flusher.freeze()
            if not await self._connection.fetchval(_OTHERS_IN_TRANSACTIONS):
                return
            self._flusher.thaw()
            await asyncio.sleep(_LOOK_SECONDS)

    async def copy(self, backlog: Backlog) -> FlusherRun:
        """The baseline's turn: the rows as they must be in the end, a COPY a batch."""
        before = (time.process_time(), *self._cpu()[1:])
        began = time.perf_counter()
        for rows in in_batches(backlog.rows, BATCH_ROWS):
            await self._connection.copy_records_to_table("sessions", records=rows, columns=COLUMNS)
        seconds = time.perf_counter() - began
        costs = _costs(before, (time.process_time(), *self._cpu()[1:]), backlog)
        return FlusherRun(len(backlog.rows) / seconds, *costs, resident_mib(os.getpid()))

    async def differences(self) -> list[str]:
        """Where the kept counts are not those of the sessions."""
        async with Database(self.dsn) as database:
            return await check_counts(database)

    async def digest(self, backlogs: Sequence[Backlog]) -> tuple[int, int, int]:
        """The rows of backlogs, in short: how many, how many upgraded, and of what."""
        ids = [row[0] for backlog in backlogs for row in backlog.rows]
        (row,) = await self._connection.fetch(
            "SELECT count(*), count(upgraded_at), coalesce(sum(hashtextextended(s::text, 0)), 0) "
            "FROM sessions s WHERE id = ANY ($1::uuid[])",
            ids,
        )
        return int(row[0]), int(row[1]), int(row[2])

    async def empty(self) -> None:
        """Forgets all rows, so that the next turn begins as this one did."""
        await self._connection.execute(
            "TRUNCATE sessions, flusher.upgrades, flusher.count_changes, flusher.counts, "
            "flusher.sign_ins, flusher.sign_in_digests"
        )
        await self._connection.execute("CHECKPOINT")

    @property
    def dsn(self) -> str:
        """Of its PostgreSQL."""
        return self._postgres.dsn()

    @property
    def flusher_pid(self) -> int:
        return self._flusher.running.pid

    async def execute(self, statement: str, *arguments: object) -> None:
        await self._connection.execute(statement, *arguments)

    def _cpu(self) -> tuple[float, float, float]:
        return (
            cpu_seconds(self._flusher.running.pid),
            cpu_seconds(self._postgres.pid),
            cpu_seconds(self._valkey.pid),
        )


def _costs(
    before: tuple[float, float, float], after: tuple[float, float, float], backlog: Backlog
) -> tuple[float, float, float]:
    """CPU seconds of the client, PostgreSQL and Valkey, as microseconds a row."""
    client, postgres, valkey = (
        (late - early) / len(backlog.rows) * 1e6 for early, late in zip(before, after, strict=True)
    )
    return client, postgres, valkey
