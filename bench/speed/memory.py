"""Resident memory of a collector and a flusher at full load: how much, and whether it grows.

`--seconds 600` is the ten minutes of the table; `make bench` runs two.
"""

import asyncio
from statistics import median_high

from bench.speed.benchmark import Figure, Measurements, Result, Run, number
from bench.speed.contender import OTHER_CORE, SERVER_CORE, put_load
from bench.speed.machine import resident_mib
from bench.speed.ours import start_ours, wait_for_rows

_MOST_MIB = 80.0
_SAMPLE_SECONDS = 1.0
_QUANTITY = "MiB, a sample a second"
# Flat: the last quarter is at most so much above the second.
_FLAT = 1.05


async def measure(run: Run) -> Result:
    """One turn, with a sample a second."""
    measured = Measurements()
    ours = await start_ours(run.folder, run.stack, {}, core=OTHER_CORE)
    collector = await ours.start_collector(SERVER_CORE)
    flusher = await ours.start("flusher", OTHER_CORE)
    pids = {"collector": collector.pid, "flusher": flusher.running.pid}
    run.say(f"{run.seconds:.0f} s of full load")
    sampling = asyncio.create_task(_sample(pids, measured))
    try:
        turn = await put_load(collector, run.seconds)
    finally:
        sampling.cancel()
    await wait_for_rows(ours.database, turn.stored)
    return Result(
        "Resident memory at full load",
        measured,
        tuple(_figure(name, measured.of(name, _QUANTITY), run.seconds) for name in pids),
        (
            f"{run.seconds:.0f} s, {turn.per_second:,.0f} requests/s; the rows equalled the 201s.",
            "Flat: the median of the last quarter is at most 5 % above that of the second.",
        ),
    )


async def _sample(pids: dict[str, int], measured: Measurements) -> None:
    while True:
        await asyncio.sleep(_SAMPLE_SECONDS)
        for name, pid in pids.items():
            measured.add(name, {_QUANTITY: resident_mib(pid)})


def _figure(name: str, samples: list[float], seconds: float) -> Figure:
    quarter = max(1, len(samples) // 4)
    second = median_high(samples[quarter : 2 * quarter] or samples)
    last = median_high(samples[-quarter:])
    most = max(samples)
    return Figure(
        f"resident memory, {name}, at full load for {seconds / 60:.0f} minutes",
        "",
        f"flat, ≤ {_MOST_MIB:.0f} MiB",
        most,
        f"at most {number(most)} MiB; {number(second)} MiB in the second quarter, "
        f"{number(last)} in the last",
        most <= _MOST_MIB and last <= second * _FLAT,
    )
