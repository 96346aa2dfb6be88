"""Our system for a benchmark: Redis, a migrated PostgreSQL, a collector, and a flusher."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from bench.speed.benchmark import Unsound
from bench.speed.contender import Server
from bench.speed.machine import on_core
from embedded.postgres import PostgresServer
from embedded.system import Program, System, eventually, run_command
from embedded.valkey import ValkeyServer
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database

_SETTLE_SECONDS = 120.0
_ROWS = "SELECT count(*) FROM sessions"


@dataclass(frozen=True, slots=True)
class Ours:
    """Its servers, which run, and its processes, which are started one by one."""

    system: System
    redis: Sequence[ValkeyServer]  # one, or the nodes of a cluster
    postgres: PostgresServer
    database: asyncpg.Connection

    @property
    def pids(self) -> dict[str, list[int]]:
        """The process ids of each part."""
        processes = {each.module: [each.running.pid] for each in self.system.programs}
        servers = {"Valkey": [each.pid for each in self.redis], "PostgreSQL": [self.postgres.pid]}
        return {**processes, **servers}

    async def start(self, module: str, core: int | None = None) -> Program:
        """Starts a process, on this core if one is given, and waits until it is ready."""
        with on_core(core):
            program = self.system.program(module).start()
        return await program.ready()

    async def start_collector(self, core: int | None = None) -> Server:
        return Server(self.system.port, await self.start("collector", core))

    async def check_kept_counts(self) -> None:
        """
        Raises:
            Unsound: the counts that a flusher or an import keeps are not those of the sessions.
        """
        async with Database(self.postgres.dsn()) as database:
            if differences := await check_counts(database):
                raise Unsound(f"the counts are wrong: {differences[:3]}")


async def start_ours(
    folder: Path,
    stack: AsyncExitStack,
    settings: Mapping[str, str],
    *,
    core: int | None = None,
    redis_on_any_core: bool = False,
    redis_config: Mapping[str, str] | None = None,
    postgres_settings: Mapping[str, str] | None = None,
    nodes: Sequence[ValkeyServer] = (),
) -> Ours:
    """Starts the servers, in a folder, and migrates the database. The stack ends all.

    `settings` are those of the processes. The servers run on `core`, if it is given. `nodes` are a
    cluster that runs: then no other Redis is started.

    Raises:
        Unsound: the database could not be migrated.
    """
    redis = nodes
    if not redis:
        with on_core(None if redis_on_any_core else core):
            redis = [stack.enter_context(ValkeyServer(folder / "valkey", config=redis_config))]
    postgres = PostgresServer(folder / "postgres", settings=postgres_settings)
    with on_core(core):
        stack.enter_context(postgres)
    url = ",".join(f"redis://127.0.0.1:{server.port}" for server in redis)
    environment = {"LOG_LEVEL": "warning", "FLUSH_MAX_SECONDS": "1", **settings}
    system = stack.enter_context(System(url, postgres.dsn(), folder / "logs", environment))
    code, _, errors = await run_command("flusher", "migrate", **system.environment)
    if code:
        raise Unsound(f"the database could not be migrated: {errors}")
    database = await asyncpg.connect(postgres.dsn())
    stack.push_async_callback(database.close)
    return Ours(system, redis, postgres, database)


async def wait_for_rows(database: asyncpg.Connection, wanted: int, query: str = _ROWS) -> None:
    """Waits until so many rows are stored.

    Raises:
        Unsound: there are more.
    """

    async def count() -> int:
        return int(await database.fetchval(query))

    if (found := await eventually(count, lambda rows: rows >= wanted, _SETTLE_SECONDS)) > wanted:
        raise Unsound(f"{wanted} requests were answered 201, and there are {found} rows")
