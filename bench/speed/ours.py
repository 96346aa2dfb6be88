"""Our system for a benchmark: PostgreSQL, a migrated database, a collector, and a flusher."""

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
async def migrated_system(
    folder: Path,
    redis_url: str,
    *,
    settings: Mapping[str, str],
    postgres_settings: Mapping[str, str] | None = None,
    core: int | None = None,
) -> AsyncIterator[tuple[System, PostgresServer, asyncpg.Connection]]:
    """A PostgreSQL with our tables, on this core if one is given, and a connection to it.

    No process of the system runs. `settings` are those of its processes.

    Raises:
        Unsound: the database could not be migrated.
    """
    with ExitStack() as stack:
        with on_core(core):
            postgres = stack.enter_context(
                PostgresServer(folder / "postgres", settings=postgres_settings)
            )
        environment = {"LOG_LEVEL": "warning", **settings}
        system = stack.enter_context(
            System(redis_url, postgres.dsn(), folder / "logs", environment)
        )
        code, _, errors = await run_command("flusher", "migrate", **system.environment)
        if code:
            raise Unsound(f"the database could not be migrated: {errors}")
        database = await asyncpg.connect(postgres.dsn())
        try:
            yield system, postgres, database
        finally:
            await database.close()


@asynccontextmanager
async def start_ours(
    folder: Path,
    redis_url: str,
    *,
    postgres_settings: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
    bound: bool = True,
) -> AsyncIterator[Ours]:
    """PostgreSQL and a collector, which use a Redis that runs.

    `extra` are settings of the collector and the flusher. If `bound`, the collector has the first
    core, PostgreSQL and the flusher have the second.
    """
    async with migrated_system(
        folder,
        redis_url,
        settings={"FLUSH_MAX_SECONDS": "1", **(extra or {})},
        postgres_settings=postgres_settings,
        core=OTHER_CORE if bound else None,
    ) as (system, postgres, database):
        with on_core(SERVER_CORE if bound else None):
            collector = system.program("collector").start()
        yield Ours(system, postgres, database, await collector.ready(), bound)


async def wait_for_rows(database: asyncpg.Connection, wanted: int, query: str = _ROWS) -> None:
    """Waits until so many rows are stored.

    Raises:
        Unsound: there are more.
    """

    async def count() -> int:
        return int(await database.fetchval(query))

    if (found := await eventually(count, lambda rows: rows >= wanted, _SETTLE_SECONDS)) > wanted:
        raise Unsound(f"{wanted} requests were answered 201, and there are {found} rows")
