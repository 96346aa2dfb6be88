"""How long reports take, and what they cost the flusher.

Fills a database with 24 months, then queries as the reader role: first while nothing else runs,
then while a flusher writes as fast as it can. The flusher's rate is taken without queries, with
queries each second, and every ten seconds, in turns. At the end every kept count must be that of
the sessions. The aims are those of 50 million sessions.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from statistics import median
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg

from bench.speed.backlog import make_backlog
from bench.speed.benchmark import Figure, Result, Run, Series, Unsound, at_least, number, ratio
from bench.speed.flusher_rig import FULL_LOAD, SETTINGS_NOTE, FlusherRun, start_bench
from contract.calendar import SECOND_US, Month, from_us, month_at
from flusher.postgres.check import add_missing_counts
from flusher.postgres.statements import statement
from runtime.clock import wall_clock

_UTC: Final = ZoneInfo("UTC")
_MONTHS, _SITES = 24, 300
_WRITTEN_A_TURN: Final = 400_000  # at most; a twentieth of a smaller table
_WHEN_QUIET: Final = 5
_FILL: Final = files("bench.speed").joinpath("fill_month.sql").read_text()
_QUERIES: Final = {
    "one site": "SELECT * FROM monthly_impact WHERE site = 'city-7.example.org'",
    "overview": "SELECT * FROM monthly_impact",
    "one site, by day": "SELECT * FROM daily_impact WHERE site = 'city-7.example.org'",
}
_MOST_MS: Final = {"overview": 50.0, "one site": 10.0}
_LEAST_SHARE: Final = 0.97
_ALONE, _EACH_SECOND, _EACH_TEN_SECONDS = (
    "flusher alone",
    "flusher, queries each second",
    "flusher, queries every ten seconds",
)
_PAUSES: Final = {_ALONE: None, _EACH_SECOND: 1.0, _EACH_TEN_SECONDS: 10.0}

Milliseconds = dict[tuple[str, str], list[float]]
"""How long queries took, by when they were made and which."""


async def measure(run: Run) -> Result:
    """Fills, then rounds of a turn of the flusher at each pace of queries."""
    written = min(_WRITTEN_A_TURN, run.size // 20)
    took: Milliseconds = {}
    turns: dict[str, list[FlusherRun]] = {name: [] for name in _PAUSES}
    async with start_bench(run.folder) as bench:
        await _fill(run, bench.connection)
        run.say("querying while nothing else runs")
        async with _reader(bench.dsn) as reader:
            for _ in range(_WHEN_QUIET):
                await _query(reader, "quiet", took)
        for turn in range(run.rounds):
            # Each is the first one once in three rounds.
            names = list(_PAUSES)
            first = turn % len(names)
            for place, name in enumerate((*names[first:], *names[:first])):
                run.say(f"round {turn + 1} of {run.rounds}, {name}")
                backlog = make_backlog(written, 3 * turn + place, _SITES)
                async with _reader(bench.dsn) as reader:
                    querying = asyncio.create_task(_keep_querying(reader, name, took))
                    turns[name].append(await bench.drain(backlog, FULL_LOAD))
                    querying.cancel()
                    await asyncio.gather(querying, return_exceptions=True)
        run.say("checking the counts")
        if differences := await bench.differences():
            raise Unsound(f"the counts are wrong: {differences[:3]}")
    return _result(took, turns, run.size, written)


async def _fill(run: Run, connection: asyncpg.Connection) -> None:
    """Fills the months with sessions, and counts them."""
    current = month_at(wall_clock(), _UTC)
    for index in range(_MONTHS):
        run.say(f"filling month {index + 1} of {_MONTHS}")
        month = current.plus(index + 1 - _MONTHS)
        await connection.execute("SELECT flusher.create_month($1)", month.first_day)
        sessions = run.size // _MONTHS
        span = from_us(month.starts_us(_UTC)), from_us(_end_us(month))
        await connection.execute(_FILL, month.first_day, sessions, _SITES, index, *span)
        await add_missing_counts(connection, month.first_day)
        await connection.execute(statement("fold_counts"))  # as a flusher does each second
    # As autovacuum would have done by the time of the first query.
    run.say("vacuuming")
    await connection.execute("VACUUM (ANALYZE)")
    await connection.execute("CREATE ROLE metabase LOGIN; GRANT impact_reader TO metabase")


def _end_us(month: Month) -> int:
    return min(month.ends_us(_UTC), wall_clock() - 60 * SECOND_US)


@asynccontextmanager
async def _reader(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn.replace("postgres@", "metabase@"))
    yield connection
    connection.terminate()


async def _query(reader: asyncpg.Connection, when: str, took: Milliseconds) -> None:
    """Makes each of the queries once."""
    for name, query in _QUERIES.items():
        started = time.perf_counter()
        await reader.fetch(query)
        took.setdefault((when, name), []).append((time.perf_counter() - started) * 1000)


async def _keep_querying(reader: asyncpg.Connection, when: str, took: Milliseconds) -> None:
    while (pause := _PAUSES[when]) is not None:
        await _query(reader, when, took)
        await asyncio.sleep(pause)


def _result(
    took: Milliseconds, turns: dict[str, list[FlusherRun]], sessions: int, written: int
) -> Result:
    rates = {name: tuple(turn.rows_per_second for turn in each) for name, each in turns.items()}
    costs = {name: tuple(turn.cpu_us for turn in each) for name, each in turns.items()}
    slow_share = median(ratio(rates[_EACH_TEN_SECONDS], rates[_ALONE]))
    return Result(
        "Reports",
        (
            *(Series(f"{name}, {when}", "ms", tuple(ms)) for (when, name), ms in took.items()),
            *(Series(name, "sessions/s", each) for name, each in rates.items()),
            *(Series(name, "CPU µs a session", each) for name, each in costs.items()),
        ),
        (
            *(_longest(name, most, took[_EACH_SECOND, name]) for name, most in _MOST_MS.items()),
            at_least(
                _EACH_SECOND,
                "the flusher alone",
                _LEAST_SHARE,
                ratio(rates[_EACH_SECOND], rates[_ALONE]),
            ),
        ),
        (
            f"{sessions:,} sessions in {_MONTHS} months on {_SITES} sites.",
            f"In a turn {written:,} more are written; a tenth of the events are upgrades.",
            f"With queries every ten seconds, the flusher kept {slow_share:.2f} of its rate.",
            "The CPU is that of the flusher and of both servers, with the queries.",
            "At the end every kept count was that of the sessions.",
            SETTINGS_NOTE,
        ),
    )


def _longest(name: str, most: float, took: list[float]) -> Figure:
    what = f"{name}, queries each second while a flusher writes, the longest"
    longest = max(took)
    return Figure(what, "", f"≤ {most:g} ms", longest, f"{number(longest)} ms", longest <= most)
