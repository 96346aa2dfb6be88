"""The flusher as the table grows from empty to twenty million rows, with a COPY beside it."""

import asyncio
from dataclasses import dataclass, field
from datetime import date
from importlib.resources import files
from statistics import median
from typing import Final

import asyncpg

from bench.speed.backlog import make_backlog
from bench.speed.benchmark import Result, Run, Series, Unsound, at_least, ratio
from bench.speed.flusher_rig import FULL_LOAD, SETTINGS_NOTE, Bench, FlusherRun, start_bench

_STEPS: Final = (0, 0.05, 0.5, 1)  # of the final size
_SESSIONS: Final = 150_000  # of a turn, at most; a twentieth of a smaller table
_FILLED_AT_ONCE: Final = 500_000
_FILLING: Final = 2  # connections
_FILL: Final = files("bench.speed").joinpath("fill_growing.sql").read_text()


@dataclass(slots=True)
class _Step:
    """What was measured while the table had about so many rows."""

    rows: int
    ours: list[FlusherRun] = field(default_factory=list)
    copies: list[FlusherRun] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"at {self.rows / 1e6:g} million"

    def series(self) -> list[Series]:
        ours = tuple(turn.rows_per_second for turn in self.ours)
        copied = tuple(turn.rows_per_second for turn in self.copies)
        cost = tuple(turn.postgres_us for turn in self.ours)
        return [
            Series(f"ours, {self.name}", "rows/s", ours),
            Series(f"COPY, {self.name}", "rows/s", copied),
            Series(f"ours, {self.name}", "PostgreSQL's CPU µs/row", cost),
        ]


async def measure(run: Run) -> Result:
    """At each size of the table, rounds of a turn each: ours, the COPY."""
    steps = [_Step(int(share * run.size)) for share in _STEPS]
    sessions = min(_SESSIONS, run.size // 20)
    month = make_backlog(1, seed=0).rows[0][1]
    rows = 0
    async with start_bench(run.folder) as bench:
        await bench.connection.execute("SELECT flusher.create_month($1)", month)
        for step in steps:
            rows += await _fill(run, bench.dsn, month, rows, step.rows)
            for number in range(1, run.rounds + 1):
                run.say(f"{step.name}, round {number} of {run.rounds}")
                await _turns(bench, step, sessions, seed=rows)
                rows += 2 * sessions
    return _result(steps, sessions)


async def _fill(run: Run, dsn: str, month: date, rows: int, wanted: int) -> int:
    """Fills the table up to a size; how many rows were added."""
    added = 0
    async with asyncpg.create_pool(dsn, min_size=_FILLING, max_size=_FILLING) as pool:
        while rows + added < wanted:
            run.say(f"filling: {(rows + added) / 1e6:.1f} of {wanted / 1e6:g} million rows")
            count = min(_FILLED_AT_ONCE, (wanted - rows - added) // _FILLING + 1)
            await asyncio.gather(*(pool.execute(_FILL, month, count) for _ in range(_FILLING)))
            added += count * _FILLING
    return added


async def _turns(bench: Bench, step: _Step, sessions: int, seed: int) -> None:
    backlogs = [make_backlog(sessions, seed=seed + place) for place in (1, 2)]
    step.ours.append(await bench.drain(backlogs[0], FULL_LOAD))
    step.copies.append(await bench.copy(backlogs[1]))
    wanted = sum(len(each.rows) for each in backlogs), sum(each.upgraded for each in backlogs)
    found = await bench.digest(backlogs)
    if found[:2] != wanted:
        raise Unsound(f"{found[0]} rows, {found[1]} upgraded, of {wanted[0]} and {wanted[1]}")


def _result(steps: list[_Step], sessions: int) -> Result:
    series = [each for step in steps for each in step.series()]
    series.sort(key=lambda each: each.quantity, reverse=True)  # keeps the steps' order
    first, last = steps[0], steps[-1]
    rates = [[turn.rows_per_second for turn in step.ours] for step in (first, last)]
    start, end = (median(turn.rows_per_second for turn in step.copies) for step in (first, last))
    memory = max(turn.resident_mib for step in steps for turn in step.ours)
    return Result(
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
            f"A turn is {sessions:,} sessions with random ids and upgrades, one event in ten.",
            "Between the steps the server fills the table, with random ids too.",
            f"The COPY at the end: {end / start:.2f} of its start; the aim is not above that.",
            f"The flusher's most resident memory: {memory:.0f} MiB.",
            "After each turn its sessions were stored, and its upgrades, too.",
            SETTINGS_NOTE,
        ),
    )
