"""The flusher as the table grows from empty to twenty million rows, with a COPY beside it."""

import asyncio
from datetime import date
from importlib.resources import files
from statistics import median
from typing import Final

import asyncpg

from bench.speed.backlog import make_backlog
from bench.speed.benchmark import Measurements, Result, Run, at_least
from bench.speed.flusher_rig import (
    FULL_LOAD,
    POSTGRES_CPU,
    RATE,
    RESIDENT,
    SETTINGS_NOTE,
    start_bench,
)

_STEPS: Final = (0, 0.05, 0.5, 1)  # of the final size
_SESSIONS: Final = 150_000  # of a turn, at most; a twentieth of a smaller table
_FILLED_AT_ONCE: Final = 500_000
_FILLING: Final = 2  # connections
_FILL: Final = files("bench.speed").joinpath("fill_growing.sql").read_text()


async def measure(run: Run) -> Result:
    """At each size of the table, rounds of a turn each: ours, the COPY."""
    measured = Measurements()
    sessions = min(_SESSIONS, run.size // 20)
    month = make_backlog(1, seed=0).rows[0][1]
    steps = [int(share * run.size) for share in _STEPS]
    rows = 0
    bench = await start_bench(run)
    await bench.ours.database.execute("SELECT flusher.create_month($1)", month)
    for step in steps:
        rows += await _fill(run, bench.ours.postgres.dsn(), month, rows, step)
        for number in range(1, run.rounds + 1):
            run.say(f"{_name(step)}, round {number} of {run.rounds}")
            backlogs = [make_backlog(sessions, seed=rows + place) for place in (1, 2)]
            ours = await bench.drain(backlogs[0], FULL_LOAD)
            copied = await bench.copy(backlogs[1])
            await bench.check_rows(*backlogs)
            quantities = {each: ours[each] for each in (RATE, POSTGRES_CPU, RESIDENT)}
            measured.add(f"ours, {_name(step)}", quantities)
            measured.add(f"COPY, {_name(step)}", {RATE: copied[RATE]})
            rows += 2 * sessions
    return _result(measured, steps, sessions)


def _name(rows: int) -> str:
    return f"at {rows / 1e6:g} million"


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


def _result(measured: Measurements, steps: list[int], sessions: int) -> Result:
    first, last = _name(steps[0]), _name(steps[-1])
    start, end = (median(measured.of(f"COPY, {step}", RATE)) for step in (first, last))
    return Result(
        "Flusher: as the table grows",
        measured,
        (
            at_least(
                f"the flusher as `sessions` grows from empty to {steps[-1] / 1e6:g} million rows",
                "itself, at the start",
                min(0.85, end / start),
                measured.ratios(RATE, f"ours, {last}", f"ours, {first}"),
            ),
        ),
        (
            f"A turn is {sessions:,} sessions with random ids and upgrades, one event in ten.",
            "Between the steps the server fills the table, with random ids too.",
            f"The COPY at the end: {end / start:.2f} of its start; the aim is not above that.",
            "The flusher's resident memory is that after each turn.",
            "After each turn its sessions were stored, and its upgrades, too.",
            SETTINGS_NOTE,
        ),
    )
