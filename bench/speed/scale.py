"""Two collectors and two flushers on two cores, beside one of each on one.

Everything runs on these cores: the servers and the generator as well. So this says what a machine
of so many cores takes, from a request to its row.
"""

import time
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg

from bench.speed.benchmark import Figure, Result, Run, Series, Unsound, number, ratio
from bench.speed.contender import OTHER_CORE, put_load
from bench.speed.machine import cpu_seconds, on_core
from embedded.postgres import PostgresServer
from embedded.system import System, eventually, run_command
from embedded.valkey import ValkeyServer

_SETTLE_SECONDS = 120.0
_ONE, _TWO = "one of each, on one core", "two of each, on two cores"


async def measure(run: Run) -> Result:
    """Rounds of a turn each, each with servers of its own.

    Raises:
        Unsound: rows are missing.
    """
    rates: dict[str, list[float]] = {_ONE: [], _TWO: []}
    shares: dict[str, list[float]] = {}
    for turn in range(1, run.rounds + 1):
        for name, each in ((_ONE, 1), (_TWO, 2)):
            run.say(f"round {turn} of {run.rounds}, {name}")
            folder = run.folder / f"{turn}-{each}"
            rate, busy = await _turn(folder, each, run.seconds)
            rates[name].append(rate)
            for part, share in busy.items():
                shares.setdefault(f"{name}: {part}", []).append(share)
    return _result(rates, shares)


async def _turn(folder: Path, each: int, seconds: float) -> tuple[float, dict[str, float]]:
    """Rows a second, from the first request to the last row, and the cores that each part used."""
    async with AsyncExitStack() as stack:
        if each == 1:
            stack.enter_context(on_core(OTHER_CORE))
        valkey = ValkeyServer(folder / "valkey").start()
        stack.callback(valkey.stop)
        postgres = PostgresServer(folder / "postgres").start()
        stack.callback(postgres.stop)
        extra = {"LOG_LEVEL": "warning", "FLUSH_MAX_SECONDS": "1"}
        system = stack.enter_context(System(valkey.url, postgres.dsn(), folder / "logs", extra))
        await run_command("flusher", "migrate", **system.environment)
        programs = await system.start(*["collector"] * each, *["flusher"] * each)
        pids = [program.running.pid for program in programs]
        parts = {
            "collectors": pids[:each],
            "flushers": pids[each:],
            "Valkey": [valkey.pid],
            "PostgreSQL": [postgres.pid],
        }
        warm = await put_load(system.port, pids[0], 2.0)
        database = await asyncpg.connect(postgres.dsn())
        stack.push_async_callback(database.close)
        already = await _settled(database, warm.stored)
        before = {part: cpu_seconds(*of) for part, of in parts.items()}
        began = time.monotonic()
        turn = await put_load(system.port, pids[0], seconds, warm=0.1)
        rows = await _settled(database, turn.stored + already)
        took = time.monotonic() - began
        if rows != turn.stored + already or turn.stored != turn.answered:
            raise Unsound(f"{turn.answered} answers, {rows - already} rows")
        busy = {part: (cpu_seconds(*of) - before[part]) / took for part, of in parts.items()}
        return turn.stored / took, busy


async def _settled(database: asyncpg.Connection, least: int) -> int:
    """Waits for so many rows; how many there are."""

    async def rows() -> int:
        return int(await database.fetchval("SELECT count(*) FROM sessions"))

    await eventually(rows, lambda found: found >= least, _SETTLE_SECONDS)
    return await rows()


def _result(rates: dict[str, list[float]], shares: dict[str, list[float]]) -> Result:
    times = ratio(rates[_TWO], rates[_ONE])
    return Result(
        "scale",
        "From one core to two",
        (
            *(Series(name, "rows/s", tuple(each)) for name, each in rates.items()),
            *(Series(name, "cores used", tuple(each)) for name, each in shares.items()),
        ),
        (
            Figure(
                "two collectors and two flushers on two cores",
                "one of each on one",
                "reported",
                times.median,
                f"{number(times.median)} times the rows/s",
                None,
            ),
        ),
        (
            (
                "Rows a second from the first request to the last row, with the servers and the "
                "generator on the same cores; the rows equalled the 201s."
            ),
            "The generator's share is what is missing of the cores.",
        ),
    )
