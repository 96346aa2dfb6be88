"""What `python -m bench.speed.reports` measures on: servers, known sessions, a flusher, readers."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg
from redis.asyncio import Redis

from bench.speed.known_sessions import Known, site_name
from bench.speed.machine import cpu_seconds
from contract import keys
from contract.calendar import SECOND_US, Month, from_us
from contract.record import FIELD, encode
from contract.settings import STREAM_SHARDS
from embedded.system import System
from flusher.postgres.check import add_missing_counts
from flusher.postgres.migrate import migrate
from flusher.postgres.statements import statement
from runtime.clock import wall_clock
from runtime.redis_connection import Command, RedisConnection

QUERIES: Final = {
    "one site": f"SELECT * FROM monthly_impact WHERE site = '{site_name(7)}'",  # noqa: S608 - ours
    "overview": "SELECT * FROM monthly_impact",
    "one site, by day": f"SELECT * FROM daily_impact WHERE site = '{site_name(7)}'",  # noqa: S608 - ours
}

_FILL = (Path(__file__).parent / "known_months.sql").read_text()
_UTC = ZoneInfo("UTC")
_SHARDS = STREAM_SHARDS.read({})
_PIPELINE = 2_000
_FILLING = 2  # connections
_POLL_SECONDS = 0.02

Seconds = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How often somebody looks: at all of `QUERIES`, then a pause. None: nobody does."""

    name: str
    pause_seconds: float | None


ALONE: Final = Pace("flusher alone", None)
EACH_SECOND: Final = Pace("flusher, reports asked for each second", 1.0)
EACH_TEN_SECONDS: Final = Pace("flusher, reports asked for every ten seconds", 10.0)
PACES: Final = (ALONE, EACH_SECOND, EACH_TEN_SECONDS)


@dataclass
class Measured:
    """Seconds of each query, quiet and while a flusher writes.

    By pace the flusher's sessions a second, and the microseconds of CPU that each took of it, Redis
    and PostgreSQL with all that it was asked: which tells the same where others use the
    machine, too.
    """

    fill_seconds: float = 0.0
    count_seconds: float = 0.0
    quiet: Seconds = field(default_factory=dict)
    busy: Seconds = field(default_factory=dict)
    busy_every_ten_seconds: Seconds = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)


class Progress:
    """What is being done, with the seconds since the start, to standard error."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def tell(self, what: str) -> None:
        print(f"[{time.monotonic() - self._began:5.0f} s] {what}", file=sys.stderr, flush=True)


@dataclass
class Rig:
    """The servers, what is known of their content, and what was measured."""

    system: System
    redis: Redis
    servers: tuple[int, int]  # their process ids
    known: Known
    months: list[Month]
    progress: Progress
    measured: Measured = field(default_factory=Measured)
    written: int = 0

    async def fill(self) -> None:
        """Years of sessions, counted."""
        connection = await asyncpg.connect(self.system.database_url)
        await migrate(connection, _UTC)
        started = time.perf_counter()
        await self._of_each_month(self._fill_month)
        await connection.execute("ANALYZE sessions")
        self.measured.fill_seconds = time.perf_counter() - started
        started = time.perf_counter()
        await self._of_each_month(self._count_month)
        await connection.execute(statement("fold_counts"))  # as a flusher does each second
        self.measured.count_seconds = time.perf_counter() - started
        # As the operator's autovacuum would have by the time somebody reads.
        self.progress.tell("vacuuming")
        await connection.execute("VACUUM (ANALYZE)")
        await connection.execute("CREATE ROLE metabase LOGIN; GRANT impact_reader TO metabase")
        await connection.close()

    async def _of_each_month(
        self, act: Callable[[asyncpg.Connection, int, Month], Awaitable[None]]
    ) -> None:
        """Acts on all months, several at a time."""
        months = enumerate(self.months)

        async def act_on_next() -> None:
            connection = await asyncpg.connect(self.system.database_url)
            for number, month in months:
                await act(connection, number, month)
            await connection.close()

        await asyncio.gather(*(act_on_next() for _ in range(_FILLING)))

    async def _fill_month(self, connection: asyncpg.Connection, number: int, month: Month) -> None:
        self.progress.tell(f"filling {month}, {number + 1} of {len(self.months)}")
        await connection.execute("SELECT flusher.create_month($1)", month.first_day)
        ends_us = min(month.ends_us(UTC), wall_clock() - 60_000_000)
        await connection.execute(
            _FILL,
            month.first_day,
            self.known.sessions,
            self.known.sites,
            number,
            from_us(month.starts_us(UTC)),
            from_us(ends_us),
        )

    async def _count_month(self, connection: asyncpg.Connection, _: int, month: Month) -> None:
        self.progress.tell(f"counting {month}")
        await add_missing_counts(connection, month.first_day)

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(
            self.system.database_url.replace("postgres@", "metabase@")
        )
        yield connection
        await connection.close()

    async def look(self, into: Seconds, by: asyncpg.Connection) -> None:
        """One analyst: a site's report, the overview, the site's days."""
        for name, query in QUERIES.items():
            started = time.perf_counter()
            await by.fetch(query)
            into.setdefault(name, []).append(time.perf_counter() - started)

    async def drain(self, entries: int, pace: Pace) -> None:
        """A flusher writes so many sessions; its rate goes to what was measured.

        They are all in the streams before it starts, since who makes them needs a core, too.
        """
        await self._append(entries)
        # The months that are over are not written anew while it is measured.
        settings = {"LOG_LEVEL": "warning", "ENDED_MONTHS_KEEP": "instant"}
        flusher = self.system.program("flusher", **settings).start()
        left = entries
        while left == entries:
            await asyncio.sleep(_POLL_SECONDS)
            left = await self._left()
        first, started = entries - left, time.perf_counter()
        processes = (flusher.running.pid, *self.servers)
        cpu_before = cpu_seconds(*processes)
        ended = asyncio.Event()
        asking = asyncio.create_task(self._keep_asking(ended, pace))
        while left:
            await asyncio.sleep(_POLL_SECONDS)
            left = await self._left()
        rate = (entries - first) / (time.perf_counter() - started)
        cpu_us = (cpu_seconds(*processes) - cpu_before) * SECOND_US / (entries - first)
        self.measured.rates.setdefault(pace.name, []).append(rate)
        self.measured.cpu_us.setdefault(pace.name, []).append(cpu_us)
        ended.set()
        await asking
        await flusher.stop()
        self.progress.tell(f"{pace.name}: {rate:,.0f} sessions/s, {cpu_us:.1f} µs each")

    async def _keep_asking(self, ended: asyncio.Event, pace: Pace) -> None:
        if pace.pause_seconds is None:
            return
        each_second = pace is EACH_SECOND
        into = self.measured.busy if each_second else self.measured.busy_every_ten_seconds
        async with self.reader() as reader:
            while not ended.is_set():
                await self.look(into, reader)
                with_pause = asyncio.wait_for(ended.wait(), pace.pause_seconds)
                await asyncio.gather(with_pause, return_exceptions=True)

    async def _append(self, entries: int) -> None:
        connection = RedisConnection(self.redis)
        for start in range(0, entries, _PIPELINE):
            commands: list[Command] = []
            for _ in range(min(_PIPELINE, entries - start)):
                at_us = wall_clock()
                session = self.known.next_session(self.months[-1], self.written, at_us)
                shard = keys.shard_of(session.id, _SHARDS)
                commands.append(("XADD", keys.stream(shard), "*", FIELD, encode(session)))
                self.written += 1
            for reply in await connection.ask(commands):
                if isinstance(reply, Exception):
                    raise reply
        connection.close()

    async def _left(self) -> int:
        pipeline = self.redis.pipeline(transaction=False)
        for shard in range(_SHARDS):
            pipeline.xlen(keys.stream(shard))
        return sum(await pipeline.execute())

    async def differences(self) -> int:
        """How many rows of the overview are not what is known."""
        sites = range(self.known.sites)
        known = {self.known.row(month, site) for month in self.months[:-1] for site in sites}
        each, rest = divmod(self.written, self.known.sites)
        known |= {self.known.row(self.months[-1], site, each + (site < rest)) for site in sites}
        async with self.reader() as reader:
            shown = {tuple(row) for row in await reader.fetch(QUERIES["overview"])}
        return len(known ^ shown)
