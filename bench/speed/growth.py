"""The flusher as the table grows from empty to twenty million rows, with a COPY beside it."""

import asyncio
from dataclasses import dataclass, field
from datetime import date
from statistics import median
from typing import Final

import asyncpg

from bench.speed.backlog import Backlog, make_backlog
from bench.speed.benchmark import Result, Run, Series, Unsound, at_least, ratio
from bench.speed.flusher_rig import FULL_LOAD, SETTINGS_NOTE, Bench, FlusherRun

_STEPS: Final = (0, 1_000_000, 10_000_000, 20_000_000)
_SESSIONS: Final = 150_000
_FILLED_AT_ONCE: Final = 500_000
_FILLING: Final = 2  # connections

# Random ids, in the order in which they come, so that the indexes grow as they do in use; counted
# as a flusher counts, a person each.
_FILL: Final = """
WITH filled AS (
    INSERT INTO sessions (id, month, site, monthly_user_hash, created_at)
    SELECT gen_random_uuid(), $1::date, 'city-' || n % 20 || '.example.org', gen_random_uuid(),
        $1::date::timestamp AT TIME ZONE 'UTC' + n * interval '1 ms'
    FROM generate_series(1, $2::int) AS n
    RETURNING month, site
)
INSERT INTO flusher.count_changes
SELECT of_month > 0, site, month, month, count(*), 0, of_month * count(*), 0, of_month * count(*)
FROM filled, (VALUES (0), (1)) AS kind (of_month)
GROUP BY month, site, of_month
"""


@dataclass(slots=True)
class _Step:
    """What was measured while the table had about so many rows."""

    rows: int
    ours: list[FlusherRun] = field(default_factory=list)
    copies: list[FlusherRun] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"at {self.rows / 1e6:g} million"


async def measure(run: Run) -> Result:
    """At each size of the table, rounds of a turn each: ours, the COPY.

    Raises:
        Unsound: the rows are not those that they must be.
    """
    steps = [_Step(rows) for rows in _STEPS]
    async with Bench(run.folder) as bench:
        rows = 0
        for step in steps:
            month = make_backlog(1, seed=0).rows[0][1]
            rows += await _fill(run, bench, month, rows, step.rows)
            for number in range(1, run.rounds + 1):
                run.say(f"{step.name}, round {number} of {run.rounds}")
                pair = [make_backlog(_SESSIONS, seed=rows + place) for place in (1, 2)]
                step.ours.append(await bench.drain(pair[0], FULL_LOAD))
                step.copies.append(await bench.copy(pair[1]))
                await _check(bench, pair)
                rows += 2 * _SESSIONS
    return _result(steps)


async def _fill(run: Run, bench: Bench, month: date, rows: int, wanted: int) -> int:
    added = 0
    await bench.execute("SELECT flusher.create_month($1)", month)
    async with asyncpg.create_pool(bench.dsn, min_size=_FILLING, max_size=_FILLING) as pool:
        while rows + added < wanted:
            run.say(f"filling: {(rows + added) / 1e6:.1f} of {wanted / 1e6:g} million rows")
            count = min(_FILLED_AT_ONCE, (wanted - rows - added) // _FILLING)
            await asyncio.gather(*(pool.execute(_FILL, month, count) for _ in range(_FILLING)))
            added += count * _FILLING
    return added


async def _check(bench: Bench, backlogs: list[Backlog]) -> None:
    wanted = sum(len(each.rows) for each in backlogs), sum(each.upgraded for each in backlogs)
    found = await bench.digest(backlogs)
    if found[:2] != wanted:
        raise Unsound(f"{found[0]} rows, {found[1]} upgraded, of {wanted[0]} and {wanted[1]}")


def _result(steps: list[_Step]) -> Result:
    series = []
    for step in steps:
        ours = [turn.rows_per_second for turn in step.ours]
        series.append(Series(f"ours, {step.name}", "rows/s", tuple(ours)))
        copied = [turn.rows_per_second for turn in step.copies]
        series.append(Series(f"COPY, {step.name}", "rows/s", tuple(copied)))
    for step in steps:
        cost = tuple(turn.postgres_us for turn in step.ours)
        series.append(Series(f"ours, {step.name}", "PostgreSQL's CPU µs/row", cost))
    first, last = steps[0], steps[-1]
    rates = [[turn.rows_per_second for turn in step.ours] for step in (first, last)]
    start, end = (median(turn.rows_per_second for turn in step.copies) for step in (first, last))
    memory = max(turn.resident_mib for step in steps for turn in step.ours)
    return Result(
        "growth",
        "Flusher: as the table grows",
        tuple(series),
        (
            at_least(
                f"the flusher as `sessions` grows from empty to {last.rows / 1e6:g} million rows",
                "itself, at the start",
                min(0.85, end / start),
                ratio(rates[1], rates[0]),
            ),
        ),
        (
            (
                f"A turn is {_SESSIONS:,} sessions with random ids and their upgrades (one event "
                "in ten); between the steps the server fills the table, with random ids too."
            ),
            (
                f"The COPY at the end, of itself at the start: {end / start:.2f}. Where that is "
                "less than 0.85, as much is to be reached."
            ),
            f"The flusher's most resident memory: {memory:.0f} MiB.",
            "After each turn its sessions were there, and as many of them upgraded as must be.",
            SETTINGS_NOTE,
        ),
        {
            "ours": "`python -m flusher`",
            "COPY": "asyncpg `copy_records_to_table` of final rows into the same table",
        },
    )
