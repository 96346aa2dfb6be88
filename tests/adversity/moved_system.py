"""A running system whose processes and salt server live by one shifted clock."""

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from redis.asyncio import Redis

from bench.load.client import connect
from bench.load.reconcile import Row, compare, read_rows
from bench.load.sent_log import Who
from contract import keys
from contract.calendar import DAY_US, Month, month_at
from contract.settings import STREAM_SHARDS
from runtime.redis_client import connect_redis
from tests.adversity.callers import Callers
from tests.adversity.clocks import ShiftedClock, ShiftedValkey, next_month, shifted_system
from tests.conftest import UTC, Databases
from tests.leftovers import files_with
from tests.system import ROOT, Program, System, eventually, find_free_port, run_successfully

_CORES = 2  # what a small machine has
_ATTEMPTS = 3


@dataclass
class MovedSystem:
    """The system, the salt's server, and visitors."""

    system: System
    server: ShiftedValkey
    clock: ShiftedClock
    month: Month  # in which it began
    redis: Redis
    zone: ZoneInfo = UTC
    callers: Callers = field(init=False)

    def __post_init__(self) -> None:
        self.callers = Callers(self.clock)

    def program(self, module: str) -> Program:
        return self.programs(module)[0]

    def programs(self, module: str) -> list[Program]:
        return [program for program in self.system.programs if program.module == module]

    async def comes(self, person: int = 1, collector: Program | None = None) -> int | None:
        """A visitor comes, to a collector or to any; the answer's status."""
        port = self.system.port if collector is None else int(collector.environment["PORT"])
        with connect(f"http://127.0.0.1:{port}", 1) as (connection,):
            _, status = await self.callers.start(connection, Who.VISITOR, person, 0)
        return status

    async def salt(self, months_later: int = 0) -> bytes:
        """The salt of its month, or of a later one."""
        salt = await self.redis.get(keys.salt(self.month.plus(months_later)))
        assert isinstance(salt, bytes)
        return salt

    async def has_salt(self) -> bool:
        return bool(await self.redis.exists(keys.salt(self.month)))

    async def made(self) -> list[str]:
        """The month of each salt, and why it was made or put back."""
        rotations: Any = await self.redis.xrange(keys.ROTATIONS)
        return [
            f"{fields[b'month'].decode()} {fields[b'outcome'].decode()}" for _, fields in rotations
        ]

    async def status(self, **settings: str) -> dict[str, Any]:
        """What `rotation status` says, with the system's settings and these."""
        environment = {**self.system.environment, **settings}
        output = await run_successfully("rotation", "status", "--json", **environment)
        status: dict[str, Any] = json.loads(output)
        return status

    async def files_with(self, salt: bytes) -> list[str]:
        """The files of the server that hold a salt."""
        return files_with(salt, self.server)

    async def unstored(self) -> int:
        """How many entries are in the streams and among the dead letters."""
        shards = range(STREAM_SHARDS.read({}))
        names = [name(shard) for shard in shards for name in (keys.stream, keys.dead_letters)]
        return sum([int(await self.redis.xlen(name)) for name in names])

    async def rows(self) -> list[Row]:
        """All sessions, when the streams are empty and no dead letter is there."""
        await eventually(self.unstored, lambda left: left == 0)
        return await read_rows(self.callers.sent_log, self.system.database_url)

    async def all_are_rows_by(self, *salts: bytes) -> list[Row]:
        """The rows. Each request was accepted. Each session is one row, of the month in which it
        was created, and hashed with the salt of that month: of the first one, of the next one.
        """
        callers, rows = self.callers, await self.rows()
        assert set(callers.answers) <= {201, 202}, callers.answers
        differences = compare(callers.sent_log, rows, self.zone)
        assert differences.exact, (differences, differences.examples)
        by_month = {self.month.plus(number): salt for number, salt in enumerate(salts)}
        for row in rows:
            session = callers.sent_log.find(row.id)
            assert session is not None
            month = month_at(row.created_us, self.zone)
            as_user = session.who is Who.USER or self.upgraded_in(row) == month
            assert row.hash == callers.hash_with(by_month[month], session, as_user=as_user)
        return rows

    def upgraded_in(self, row: Row) -> Month | None:
        return None if row.upgraded_us is None else month_at(row.upgraded_us, self.zone)


async def migrated(databases: Databases, zone: ZoneInfo = UTC) -> str:
    """The DSN of a new database for a calendar."""
    dsn = await databases.create()
    await run_successfully("flusher", "migrate", DATABASE_URL=dsn, CALENDAR_TIMEZONE=zone.key)
    return dsn


@asynccontextmanager
async def in_mid_month(
    folder: Path, *modules: str, databases: Databases | None = None, apart: bool = False
) -> AsyncIterator[MovedSystem]:
    """A system that has started in the middle of a month, with a new database where `databases` is
    given; `apart`: each collector with a port of its own.
    """
    database_url = await migrated(databases) if databases else ""
    month = next_month(UTC)
    clock = ShiftedClock.before(month.starts_us(UTC) + 14 * DAY_US, 0)
    with shifted_system(folder, clock, UTC, database_url) as (system, server):
        for module in modules:
            own = {"PORT": str(find_free_port())} if apart and module == "collector" else {}
            system.program(module, **own).start()
        for program in system.programs:
            await program.ready()
        async with connect_redis(server.url) as redis:
            yield MovedSystem(system, server, clock, month, redis)


@asynccontextmanager
async def before_a_months_end(
    folder: Path,
    month: Month,
    *,
    seconds: float,
    start: Callable[[System, ShiftedClock], Awaitable[object]],
    processes: int,
    zone: ZoneInfo = UTC,
    database_url: str = "",
) -> AsyncIterator[MovedSystem]:
    """A system that has started when its clock shows a month's end to come in `seconds` or a bit
    more. Where the machine was slower than expected, all of it is started again, with more time.

    `start` starts about so many `processes`, and waits until they are ready.
    """
    allowed = _seconds_to_start(processes)
    for attempt in range(_ATTEMPTS):
        began = time.monotonic()
        clock = ShiftedClock.before(month.ends_us(zone), allowed + seconds)
        place = folder / f"start-{attempt}"
        with shifted_system(place, clock, zone, database_url) as (system, server):
            await start(system, clock)
            took = time.monotonic() - began
            if took <= allowed:
                async with connect_redis(server.url) as redis:
                    yield MovedSystem(system, server, clock, month, redis, zone)
                return
        allowed = 2.0 * took
    raise AssertionError(f"{_ATTEMPTS} slow starts: the last took {took:.1f} s")


def _seconds_to_start(processes: int) -> float:
    """In how many seconds so many of our processes will have started, on this machine now."""
    began = time.monotonic()
    command = [sys.executable, "-m", "collector", "--help"]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    one = time.monotonic() - began
    return 2.0 + 2.0 * processes / _CORES * one
