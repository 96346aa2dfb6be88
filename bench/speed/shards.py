"""One stream or eight: what a batch costs Valkey and the flusher.

A collector's write of 32 records is one entry in one stream, and some four in each of eight.
"""

from typing import Final

from bench.speed.backlog import make_backlog
from bench.speed.benchmark import Result, Run, Series, Unsound, at_least, ratio
from bench.speed.drain import FULL_LOAD, SETTINGS_NOTE, Bench, Drained

_SESSIONS: Final = 300_000
_SHARDS: Final = (1, 8)


async def measure(run: Run) -> Result:
    """Rounds of a turn each, at full load and with one record an entry.

    Raises:
        Unsound: the rows are not all there, or their counts are wrong.
    """
    run.say("making events")
    backlog = make_backlog(_SESSIONS, seed=1)
    turns: dict[tuple[int, int], list[Drained]] = {}
    benches = {shards: Bench(run.folder / str(shards), shards) for shards in _SHARDS}
    async with benches[1], benches[8]:
        for number in range(1, run.rounds + 1):
            # Each goes first in every second round: the machine may get slower or faster meanwhile.
            order = list(benches.items())[:: 1 if number % 2 else -1]
            for shards, bench in order:
                for records in (FULL_LOAD, 1):
                    run.say(f"round {number} of {run.rounds}, {shards} shards, {records} a write")
                    turn = await bench.drain(backlog, records)
                    turns.setdefault((shards, records), []).append(turn)
                    found, upgraded, _ = await bench.digest([backlog])
                    if (found, upgraded) != (len(backlog.rows), backlog.upgraded):
                        raise Unsound(f"{found} rows, {upgraded} upgraded")
                    if differences := await bench.differences():
                        raise Unsound(f"the counts are wrong: {differences}")
                    await bench.empty()
    return _result(turns)


def _result(turns: dict[tuple[int, int], list[Drained]]) -> Result:
    series = []
    for (shards, records), each in turns.items():
        name = f"{shards} shards, {records} a write"
        for what, unit, values in (
            ("", "rows/s", [turn.rows_per_second for turn in each]),
            (": Valkey, appending", "CPU µs/row", [turn.append_us for turn in each]),
            (": Valkey, draining", "CPU µs/row", [turn.valkey_us for turn in each]),
            (": flusher", "CPU µs/row", [turn.client_us for turn in each]),
            (": PostgreSQL", "CPU µs/row", [turn.postgres_us for turn in each]),
        ):
            series.append(Series(name + what, unit, tuple(values)))
    rates = {key: [turn.rows_per_second for turn in each] for key, each in turns.items()}
    return Result(
        "shards",
        "One shard or eight",
        tuple(series),
        tuple(
            at_least(
                f"one shard, rows/s, {records} records a write",
                "eight shards",
                1.0,
                ratio(rates[1, records], rates[8, records]),
            )
            for records in (FULL_LOAD, 1)
        ),
        (
            "A figure is the median of the rounds' ratios. One process of each.",
            "Each goes first in every second round.",
            "After each turn all rows were there, and their counts right.",
            SETTINGS_NOTE,
        ),
        {},
    )
