"""How many rows a flusher stores, beside a bare COPY of the same rows into the same table.

From entries as collectors append them under load, which records share, and from entries of one.
"""

from statistics import median

from bench.speed.backlog import Backlog, make_backlog
from bench.speed.benchmark import Result, Run, Series, Unsound, at_least, at_most, ratio
from bench.speed.flusher_rig import (
    BATCH_ROWS,
    FULL_LOAD,
    SETTINGS_NOTE,
    FlusherRun,
    start_bench,
)

_OURS, _ALONE, _COPY = "ours", "ours, one record an entry", "COPY"


async def measure(run: Run) -> Result:
    """Rounds of a turn each: ours, ours from entries of one record, the COPY."""
    run.say("making events")
    # Seconds a turn: its first and last batch, which have nothing beside them, matter little.
    backlog = make_backlog(run.size, seed=1)
    turns: dict[str, list[FlusherRun]] = {_OURS: [], _ALONE: [], _COPY: []}
    async with start_bench(run.folder) as bench:
        for number in range(1, run.rounds + 1):
            found = []
            for name, records_a_write in ((_OURS, FULL_LOAD), (_ALONE, 1)):
                run.say(f"round {number} of {run.rounds}, {name}")
                turns[name].append(await bench.drain(backlog, records_a_write))
                found.append(await bench.digest([backlog]))
                if differences := await bench.differences():
                    raise Unsound(f"the counts are wrong: {differences}")
                await bench.empty()
            run.say(f"round {number} of {run.rounds}, {_COPY}")
            turns[_COPY].append(await bench.copy(backlog))
            copied = await bench.digest([backlog])
            await bench.empty()
            if copied[:2] != (len(backlog.rows), backlog.upgraded) or {*found} != {copied}:
                raise Unsound(f"rows, of them upgraded, hash: {found}; of the COPY: {copied}")
    return _result(turns, backlog)


def _result(turns: dict[str, list[FlusherRun]], backlog: Backlog) -> Result:
    rates = {name: [turn.rows_per_second for turn in each] for name, each in turns.items()}
    series = [Series(name, "rows/s", tuple(each)) for name, each in rates.items()]
    for name, each in turns.items():
        costs = {
            "client" if name == _COPY else "flusher": [turn.client_us for turn in each],
            "PostgreSQL": [turn.postgres_us for turn in each],
            "Valkey": [turn.valkey_us for turn in each],
        }
        series += [
            Series(f"{name}: {part}", "CPU µs/row", tuple(cost)) for part, cost in costs.items()
        ]
    resident = Series(_OURS, "MiB resident", tuple(turn.resident_mib for turn in turns[_OURS]))
    alone = median(ratio(rates[_ALONE], rates[_COPY]))
    return Result(
        "Flusher: rows a second, one process",
        (*series, resident),
        (
            at_least(
                "flusher, rows/s, one process, 10% upgrades",
                "asyncpg `copy_records_to_table` of the same rows",
                0.8,
                ratio(rates[_OURS], rates[_COPY]),
            ),
            at_most("flusher's resident memory after each turn", "", 120, resident.values, " MiB"),
        ),
        (
            "A figure is the median of the rounds' ratios.",
            f"{len(backlog.rows):,} sessions with random ids, {backlog.upgraded:,} upgrades by id.",
            "A fifth of the upgrades follow their session soon, the others 2 to 6 batches later.",
            f"With one record an entry: {alone:.2f} of the COPY.",
            "After each turn all columns were those that were copied.",
            "The counts, which the same transactions keep, were exactly those of the rows.",
            SETTINGS_NOTE,
        ),
        {
            _OURS: "`python -m flusher`: from the streams, as a collector appends at its full load "
            f"({FULL_LOAD} records a write, of which those of a shard share an entry), to the last "
            "acknowledgement",
            _ALONE: "the same, from entries as a collector appends that has little to do",
            _COPY: "asyncpg `copy_records_to_table` of the final rows, from Python tuples that are "
            f"there already, {BATCH_ROWS:,} a transaction",
        },
    )
