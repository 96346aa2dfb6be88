"""Resident memory of a collector and a flusher at full load: what it grows to, and that it stops.

`--seconds 600` is the ten minutes of the table; `make bench` runs two.
"""

import asyncio
from contextlib import AsyncExitStack

import asyncpg

from bench.speed.benchmark import Figure, Result, Run, Series, Unsound, number
from bench.speed.contender import OTHER_CORE, SERVER_CORE, put_load
from bench.speed.machine import on_core, resident_mib
from embedded.postgres import PostgresServer
from embedded.system import System, eventually, run_command
from embedded.valkey import ValkeyServer

_MOST_MIB = 80.0
_SAMPLE_SECONDS = 1.0
_SETTLE_SECONDS = 120.0
# Flat: the last quarter is not above the second by more than this share.
_FLAT = 1.05
_MODULES = ("collector", "flusher")


async def measure(run: Run) -> Result:
    """One turn, with a sample a second.

    Raises:
        Unsound: rows are missing.
    """
    async with AsyncExitStack() as stack:
        with on_core(OTHER_CORE):
            valkey = stack.enter_context(ValkeyServer(run.folder / "valkey"))
            postgres = stack.enter_context(PostgresServer(run.folder / "postgres"))
        extra = {"LOG_LEVEL": "warning", "FLUSH_MAX_SECONDS": "1"}
        system = stack.enter_context(System(valkey.url, postgres.dsn(), run.folder / "logs", extra))
        await run_command("flusher", "migrate", **system.environment)
        with on_core(SERVER_CORE):
            collector = system.program("collector").start()
        with on_core(OTHER_CORE):
            flusher = system.program("flusher").start()
        await asyncio.gather(collector.ready(), flusher.ready())
        pids = {"collector": collector.running.pid, "flusher": flusher.running.pid}
        samples: dict[str, list[float]] = {name: [] for name in _MODULES}
        sampling = asyncio.create_task(_sample(pids, samples))
        try:
            run.say(f"{run.seconds:.0f} s of full load")
            turn = await put_load(system.port, pids["collector"], run.seconds)
        finally:
            sampling.cancel()
        database = await asyncpg.connect(postgres.dsn())
        stack.push_async_callback(database.close)

        async def rows() -> int:
            return int(await database.fetchval("SELECT count(*) FROM sessions"))

        await eventually(rows, lambda found: found >= turn.stored, _SETTLE_SECONDS)
        if await rows() != turn.stored:
            raise Unsound(f"{turn.stored} requests were acknowledged, {await rows()} rows")
    return _result(samples, run.seconds, turn.load.per_second)


async def _sample(pids: dict[str, int], samples: dict[str, list[float]]) -> None:
    while True:
        await asyncio.sleep(_SAMPLE_SECONDS)
        for name, pid in pids.items():
            samples[name].append(resident_mib(pid))


def _result(samples: dict[str, list[float]], seconds: float, per_second: float) -> Result:
    return Result(
        "memory",
        "Resident memory at full load",
        tuple(Series(name, "MiB, a sample a second", tuple(samples[name])) for name in _MODULES),
        tuple(_figure(name, samples[name], seconds) for name in _MODULES),
        (
            f"{seconds:.0f} s at {per_second:,.0f} requests/s; the rows equalled the 201s.",
            "Flat: the median of the last quarter is at most 5 % above that of the second.",
        ),
    )


def _figure(name: str, samples: list[float], seconds: float) -> Figure:
    quarter = max(1, len(samples) // 4)
    second, last = (
        sorted(part)[len(part) // 2]
        for part in (samples[quarter : 2 * quarter] or samples, samples[-quarter:])
    )
    most = max(samples)
    return Figure(
        f"resident memory, {name}, at full load for {seconds / 60:.0f} minutes",
        "",
        "flat, ≤ 80 MiB",
        most,
        f"at most {number(most)} MiB; {number(second)} MiB in the second quarter, "
        f"{number(last)} in the last",
        most <= _MOST_MIB and last <= second * _FLAT,
    )
