"""What it costs to lose less: Redis's `appendfsync` and our `APPEND_DURABILITY`, in turns."""

from contextlib import AsyncExitStack

from bench.speed.benchmark import Result, Run, Series
from bench.speed.contender import Turn, put_load
from bench.speed.ours import start_ours, wait_for_rows
from embedded.valkey import ValkeyServer

_COMBINATIONS = (
    ("everysec", "server"),
    ("always", "server"),
    ("everysec", "fsync"),
    ("always", "fsync"),
)


async def measure(run: Run) -> Result:
    """Rounds of a turn each, on a new system; all processes share the cores."""
    turns: dict[str, list[Turn]] = {}
    for number in range(1, run.rounds + 1):
        for appendfsync, durability in _COMBINATIONS:
            name = f"`{appendfsync}`, `{durability}`"
            run.say(f"round {number} of {run.rounds}, {name}")
            folder = run.folder / f"{appendfsync}-{durability}-{number}"
            async with AsyncExitStack() as stack:
                valkey = ValkeyServer(folder / "valkey", config={"appendfsync": appendfsync})
                stack.enter_context(valkey)
                extra = {"APPEND_DURABILITY": durability}
                ours = await stack.enter_async_context(
                    start_ours(folder, valkey.url, extra=extra, bound=False)
                )
                await ours.start_flusher()
                first = await put_load(ours.port, ours.pid, 1.0)  # each User-Agent once
                turn = await put_load(ours.port, ours.pid, run.seconds)
                await wait_for_rows(ours.database, first.stored + turn.stored)
                turns.setdefault(name, []).append(turn)
    quantities = ("requests/s", "p50, ms", "p99, ms")
    return Result(
        "Durability",
        tuple(
            Series(name, quantity, tuple(_value(turn, quantity) for turn in each))
            for quantity in quantities
            for name, each in turns.items()
        ),
        (),
        (
            "`appendfsync` and `APPEND_DURABILITY`; 64 connections; the rows equalled the 201s.",
            "The load generator and the servers share the cores.",
        ),
    )


def _value(turn: Turn, quantity: str) -> float:
    percentile, _, unit = quantity.partition(", ")
    return turn.load.latencies_ms[percentile] if unit else turn.load.per_second
