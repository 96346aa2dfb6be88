"""What it costs to lose less: Redis's `appendfsync` and our `APPEND_DURABILITY`, in turns."""

from contextlib import AsyncExitStack
from dataclasses import replace

from bench.speed.benchmark import Measurements, Result, Run
from bench.speed.contender import put_load
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
    measured = Measurements()
    combinations = {f"`{fsync}`, `{ours}`": (fsync, ours) for fsync, ours in _COMBINATIONS}
    for number, name in run.turns(combinations):
        appendfsync, durability = combinations[name]
        config, extra = {"appendfsync": appendfsync}, {"APPEND_DURABILITY": durability}
        async with AsyncExitStack() as stack:
            own = replace(
                run, folder=run.folder / f"{appendfsync}-{durability}-{number}", stack=stack
            )
            valkey = stack.enter_context(ValkeyServer(own.folder / "valkey", config=config))
            ours = await start_ours(own, valkey.url, extra=extra, bound=False)
            await ours.start_flusher()
            first = await put_load(ours.port, ours.pid, 1.0)  # each User-Agent once
            turn = await put_load(ours.port, ours.pid, run.seconds)
            await wait_for_rows(ours.database, first.stored + turn.stored)
        latencies = {f"{name}, ms": turn.latencies_ms[name] for name in ("p50", "p99")}
        measured.add(name, {"requests/s": turn.per_second, **latencies})
    return Result(
        "Durability",
        measured.series(),
        (),
        (
            "`appendfsync` and `APPEND_DURABILITY`; 64 connections; the rows equalled the 201s.",
            "The load generator and the servers share the cores.",
        ),
    )
