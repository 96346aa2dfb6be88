"""How long reports take, and what they cost the flusher.

Fills a database with 24 months, then queries as the reader role: first while nothing else runs,
then while a flusher writes as fast as it can. The flusher's rate is measured without queries and
with queries each second, in turns. At the end every kept count must be that of the sessions. The
aims are those of 50 million sessions.
"""

import asyncio
import time
from contextlib import suppress
from datetime import UTC
from importlib.resources import files
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Final

import asyncpg

from bench.speed.backlog import make_backlog
from bench.speed.benchmark import Figure, Measurements, Result, Run, at_least, at_most
from bench.speed.flusher_rig import FULL_LOAD, PARTS, RATE, SETTINGS_NOTE, start_bench
from contract.calendar import SECOND_US, from_us, month_at
from flusher.postgres.check import add_missing_counts
from flusher.postgres.statements import statement
from runtime.clock import wall_clock

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
_MS: Final = "ms"
_ALONE, _EACH_SECOND = "flusher alone", "flusher, queries each second"
_PAUSE_SECONDS: Final = 1.0


async def measure(run: Run) -> Result:
    """Fills, then rounds of a turn of the flusher at each pace of queries."""
    written = min(_WRITTEN_A_TURN, run.size // 20)
    measured = Measurements()
    bench = await start_bench(run)
    await _fill(run, bench.ours.database)
    run.say("querying while nothing else runs")
    reader = _start_reader(run, bench.ours.postgres.dsn().replace("postgres@", "metabase@"))
    for _ in range(_WHEN_QUIET):
        await _query(reader, "quiet", measured)
    for seed, (_, name) in enumerate(run.turns((_ALONE, _EACH_SECOND))):
        backlog = make_backlog(written, seed, _SITES)
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            if name == _EACH_SECOND:
                group.create_task(_keep_querying(reader, name, measured, over))
            turn = await bench.drain(backlog, FULL_LOAD)
            over.set()
        cpu = sum(turn[part] for part in PARTS)
        measured.add(name, {RATE: turn[RATE], "CPU µs a session": cpu})
    run.say("checking the counts")
    await bench.ours.check_kept_counts()
    return _result(measured, run.size, written)


async def _fill(run: Run, connection: asyncpg.Connection) -> None:
    """Fills the months with sessions, and counts them."""
    current = month_at(wall_clock(), UTC)
    for index in range(_MONTHS):
        run.say(f"filling month {index + 1} of {_MONTHS}")
        month = current.plus(index + 1 - _MONTHS)
        await connection.execute("SELECT flusher.create_month($1)", month.first_day)
        sessions = run.size // _MONTHS
        end_us = min(month.ends_us(UTC), wall_clock() - 60 * SECOND_US)
        span = from_us(month.starts_us(UTC)), from_us(end_us)
        await connection.execute(_FILL, month.first_day, sessions, _SITES, index, *span)
        await add_missing_counts(connection, month.first_day)
        await connection.execute(statement("fold_counts"))  # as a flusher does each second
    # As autovacuum would have done by the time of the first query.
    run.say("vacuuming")
    await connection.execute("VACUUM (ANALYZE)")
    await connection.execute("CREATE ROLE metabase LOGIN; GRANT impact_reader TO metabase")


def _start_reader(run: Run, dsn: str) -> Connection:
    """A process of its own: a query's time then has nothing of the benchmark's own work."""
    reader, other_end = (context := get_context("spawn")).Pipe()
    process = context.Process(target=_answer, args=(other_end, dsn), daemon=True)
    process.start()
    run.stack.enter_context(reader)
    run.stack.callback(process.terminate)  # before the pipe is closed
    return reader


def _answer(connection: Connection, dsn: str) -> None:
    """The reader's process: for each message a round of the queries, and their times in ms."""
    asyncio.run(_answer_with_times(connection, dsn))


async def _answer_with_times(connection: Connection, dsn: str) -> None:
    # One connection for all queries. Each is planned anew, as by psql and `flusher report`.
    database = await asyncpg.connect(dsn, statement_cache_size=0)
    while True:
        connection.recv()
        times = {}
        for name, query in _QUERIES.items():
            started = time.perf_counter()
            await database.fetch(query)
            times[name] = (time.perf_counter() - started) * 1000
        connection.send(times)


async def _query(reader: Connection, when: str, measured: Measurements) -> None:
    """Makes each of the queries once."""
    reader.send(None)
    times: dict[str, float] = await asyncio.to_thread(reader.recv)
    for name, milliseconds in times.items():
        measured.add(f"{name}, {when}", {_MS: milliseconds})


async def _keep_querying(
    reader: Connection, when: str, measured: Measurements, over: asyncio.Event
) -> None:
    while not over.is_set():
        await _query(reader, when, measured)
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), _PAUSE_SECONDS)


def _result(measured: Measurements, sessions: int, written: int) -> Result:
    return Result(
        "Reports",
        measured,
        (
            *(_longest(name, most, measured) for name, most in _MOST_MS.items()),
            at_least(
                _EACH_SECOND,
                "the flusher alone",
                _LEAST_SHARE,
                measured.ratios(RATE, _EACH_SECOND, _ALONE),
            ),
        ),
        (
            f"{sessions:,} sessions in {_MONTHS} months on {_SITES} sites.",
            f"In a turn {written:,} more are written; a tenth of the events are upgrades.",
            "The CPU is that of the flusher and of both servers, with the queries.",
            "At the end every kept count was that of the sessions.",
            SETTINGS_NOTE,
        ),
    )


def _longest(name: str, most: float, measured: Measurements) -> Figure:
    what = f"{name}, queries each second while a flusher writes, the longest"
    return at_most(what, "", most, [max(measured.of(f"{name}, {_EACH_SECOND}", _MS))], " ms")
