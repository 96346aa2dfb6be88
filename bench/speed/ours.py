"""Our system for a benchmark: servers, a migrated database, a collector, and perhaps a flusher."""

from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from bench.speed.benchmark import Unsound
from bench.speed.contender import OTHER_CORE, SERVER_CORE
from bench.speed.machine import on_core
from embedded.postgres import PostgresServer
from embedded.system import Program, System, eventually, run_command

_SETTLE_SECONDS = 120.0
_ROWS = "SELECT count(*) FROM sessions"


@dataclass(frozen=True, slots=True)
class Ours:
    """The running system."""

    system: System
    postgres: PostgresServer
    database: asyncpg.Connection
    collector: Program
    bound: bool

    @property
    def port(self) -> int:
        return self.system.port

    @property
    def pid(self) -> int:
        """The collector's."""
        return self.collector.running.pid

    async def start_flusher(self) -> Program:
        with on_core(OTHER_CORE if self.bound else None):
            flusher = self.system.program("flusher").start()
        return await flusher.ready()


@asynccontextmanager
async def start_ours(
    folder: Path,
    redis_url: str,
    *,
    postgres_settings: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
    bound: bool = True,
) -> AsyncIterator[Ours]:
    """PostgreSQL and a collector.

    Args:
        folder: for their data and logs.
        redis_url: a server that runs.
        postgres_settings: of the server.
        extra: settings of the collector and the flusher.
        bound: the collector has the first core, PostgreSQL and the flusher have the second.
    """
    settings = {"LOG_LEVEL": "warning", "FLUSH_MAX_SECONDS": "1", **(extra or {})}
    with ExitStack() as stack:
        postgres = PostgresServer(folder / "postgres", settings=postgres_settings)
        with on_core(OTHER_CORE if bound else None):
            stack.enter_context(postgres)
        system = stack.enter_context(System(redis_url, postgres.dsn(), folder / "logs", settings))
        code, _, errors = await run_command("flusher", "migrate", **system.environment)
        if code:
            raise Unsound(f"the database could not be migrated: {errors}")
        with on_core(SERVER_CORE if bound else None):
            collector = system.program("collector").start()
        await collector.ready()
        database = await asyncpg.connect(postgres.dsn())
        try:
            yield Ours(system, postgres, database, collector, bound)
        finally:
            await database.close()


async def wait_for_rows(database: asyncpg.Connection, wanted: int, query: str = _ROWS) -> None:
    """Waits until so many rows are stored.

    Raises:
        Unsound: there are more.
    """

    async def count() -> int:
        return int(await database.fetchval(query))

    if (found := await eventually(count, lambda rows: rows >= wanted, _SETTLE_SECONDS)) > wanted:
        raise Unsound(f"{wanted} requests were answered 201, and there are {found} rows")
