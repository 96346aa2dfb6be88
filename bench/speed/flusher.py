"""How many rows a flusher stores, beside a bare COPY of the same rows into the same table.

From entries as collectors append them under load, which records share, and from entries of one.
"""

from statistics import median

from bench.speed.backlog import Backlog, make_backlog
from bench.speed.benchmark import Measurements, Result, Run, Unsound, at_least, at_most
from bench.speed.flusher_rig import (
    BATCH_ROWS,
    FULL_LOAD,
    RATE,
    RESIDENT,
    SETTINGS_NOTE,
    start_bench,
)

_OURS, _ALONE, _COPY = "ours", "ours, one record an entry", "COPY"


async def measure(run: Run) -> Result:
    """Rounds of a turn each: ours, ours from entries of one record, the COPY."""
    run.say("making events")
    # A turn takes seconds: its first and last batch, which overlap with no other, matter little.
    backlog = make_backlog(run.size, seed=1)
    measured = Measurements()
    digests = set[int]()
    bench = await start_bench(run)
    for _, name in run.turns((_OURS, _ALONE, _COPY)):
        if name == _COPY:
            measured.add(name, await bench.copy(backlog))
        else:
            measured.add(name, await bench.drain(backlog, FULL_LOAD if name == _OURS else 1))
            await bench.ours.check_kept_counts()
        digests.add(await bench.check_rows(backlog))
        if len(digests) > 1:
            raise Unsound(f"{name}: columns differ from those of the turn before")
        await bench.empty()
    return _result(measured, backlog)


def _result(measured: Measurements, backlog: Backlog) -> Result:
    alone = median(measured.ratios(RATE, _ALONE, _COPY))
    return Result(
        "Flusher: rows a second, one process",
        measured,
        (
            at_least(
                "flusher, rows/s, one process, 10% upgrades",
                "asyncpg `copy_records_to_table` of the same rows",
                0.8,
                measured.ratios(RATE, _OURS, _COPY),
            ),
            at_most(
                "flusher's resident memory after each turn",
                "",
                120,
                measured.of(_OURS, RESIDENT),
                " MiB",
            ),
        ),
        (
            f"**{_OURS}**: `python -m flusher`, from the streams to the last acknowledgement.",
            f"Its entries are those of a collector at its full load ({FULL_LOAD} records a write).",
            f"**{_ALONE}**: the same, from the entries of a collector that has little to do.",
            f"**{_COPY}**: asyncpg `copy_records_to_table` of the final rows from Python tuples.",
            f"A transaction of the COPY has {BATCH_ROWS:,} rows.",
            "The client is the flusher's process, or that of the COPY.",
            f"{len(backlog.rows):,} sessions with random ids, {backlog.upgraded:,} upgrades by id.",
            "A fifth of the upgrades follow their session soon, the others 2 to 6 batches later.",
            f"With one record an entry: {alone:.2f} of the COPY.",
            "After each turn all columns were those that were copied.",
            "The counts, which the same transactions keep, were exactly those of the rows.",
            SETTINGS_NOTE,
        ),
    )
