"""Our system for a benchmark: PostgreSQL, a migrated database, a collector, and a flusher."""

from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from bench.speed.benchmark import Run, Unsound
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


async def migrated_system(
    run: Run,
    redis_url: str,
    *,
    settings: Mapping[str, str],
    postgres_settings: Mapping[str, str] | None = None,
    core: int | None = None,
) -> tuple[System, PostgresServer, asyncpg.Connection]:
    """A PostgreSQL with our tables, on this core if one is given, and a connection to it.

    No process of the system runs. `settings` are those of its processes.

    Raises:
        Unsound: the database could not be migrated.
    """
    with on_core(core):
        postgres = PostgresServer(run.folder / "postgres", settings=postgres_settings)
        run.stack.enter_context(postgres)
    environment = {"LOG_LEVEL": "warning", **settings}
    system = System(redis_url, postgres.dsn(), run.folder / "logs", environment)
    run.stack.enter_context(system)
    code, _, errors = await run_command("flusher", "migrate", **system.environment)
    if code:
        raise Unsound(f"the database could not be migrated: {errors}")
    database = await asyncpg.connect(postgres.dsn())
    run.stack.push_async_callback(database.close)
    return system, postgres, database


async def start_ours(
    run: Run,
    redis_url: str,
    *,
    postgres_settings: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
    bound: bool = True,
) -> Ours:
    """PostgreSQL and a collector, which use a Redis that runs.

    `extra` are settings of the collector and the flusher. If `bound`, the collector has the first
    core, PostgreSQL and the flusher have the second.
    """
    system, postgres, database = await migrated_system(
        run,
        redis_url,
        settings={"FLUSH_MAX_SECONDS": "1", **(extra or {})},
        postgres_settings=postgres_settings,
        core=OTHER_CORE if bound else None,
    )
    with on_core(SERVER_CORE if bound else None):
        collector = system.program("collector").start()
    return Ours(system, postgres, database, await collector.ready(), bound)


async def wait_for_rows(database: asyncpg.Connection, wanted: int, query: str = _ROWS) -> None:
    """Waits until so many rows are stored.

    Raises:
        Unsound: there are more.
    """

    async def count() -> int:
        return int(await database.fetchval(query))

    if (found := await eventually(count, lambda rows: rows >= wanted, _SETTLE_SECONDS)) > wanted:
        raise Unsound(f"{wanted} requests were answered 201, and there are {found} rows")
