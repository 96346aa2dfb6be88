"""What it costs to lose less: Redis's `appendfsync` and our `APPEND_DURABILITY`, in turns."""

from contextlib import AsyncExitStack

from bench.speed.benchmark import Measurements, Result, Run
from bench.speed.contender import put_load
from bench.speed.ours import start_ours, wait_for_rows


async def measure(run: Run) -> Result:
    """Rounds of a turn each, on a new system; all processes share the cores."""
    measured = Measurements()
    combinations = {
        f"`{fsync}`, `{ours}`": (fsync, ours)
        for ours in ("server", "fsync")
        for fsync in ("everysec", "always")
    }
    for number, name in run.turns(combinations):
        appendfsync, durability = combinations[name]
        config, settings = {"appendfsync": appendfsync}, {"APPEND_DURABILITY": durability}
        folder = run.folder / f"{appendfsync}-{durability}-{number}"
        async with AsyncExitStack() as stack:
            ours = await start_ours(folder, stack, settings, redis_config=config)
            collector = await ours.start_collector()
            await ours.start("flusher")
            first = await put_load(collector, 1.0)  # each User-Agent once
            turn = await put_load(collector, run.seconds)
            await wait_for_rows(ours.database, first.stored + turn.stored)
        latencies = {f"{name}, ms": turn.latencies_ms[name] for name in ("p50", "p99")}
        measured.add(name, {"requests/s": turn.per_second, **latencies})
    return Result(
        "Durability",
        measured,
        (),
        (
            "`appendfsync` and `APPEND_DURABILITY`; 64 connections; the rows equalled the 201s.",
            "The load generator and the servers share the cores.",
        ),
    )
