"""How long a beacon waits for its answer, and how long until its row can be read.

Open loop, at half of what the collector answers at the most: each latency counts from when the
request was due. The same rate for the bare application.
"""

import asyncio
from contextlib import AsyncExitStack
from importlib.resources import files

import asyncpg

from bench.speed.benchmark import Result, Run, Series, Unsound, at_most, ratio
from bench.speed.contender import (
    OTHER_CORE,
    SERVER_CORE,
    Baseline,
    Turn,
    check_generator,
    generators_limit,
    put_load,
)
from bench.speed.machine import on_core
from embedded.postgres import PostgresServer
from embedded.system import System, eventually, run_command
from embedded.valkey import ValkeyServer

FLUSH_MAX_SECONDS = 1.0
_OURS, _BARE = "ours", "bare aiohttp"
# Short turns, close together: a neighbour on the machine that stalls it for a moment spoils one of
# them, and not the round.
_PAIRS = 4
_SETTLE_SECONDS = 60.0
_SECONDS_UNTIL_VISIBLE = files("bench.speed").joinpath("seconds_until_visible.sql").read_text()


async def measure(run: Run) -> Result:
    """Rounds of turns: ours and the bare application by turns, then ours with a flusher at work.

    Raises:
        Unsound: rows are missing, or the generator was the limit.
    """
    async with AsyncExitStack() as stack:
        # On whichever core has time, as the kernel finds: held beside the generator, its answers
        # would wait for the generator's turns, and no answer of the bare application does.
        valkey = stack.enter_context(ValkeyServer(run.folder / "valkey"))
        with on_core(OTHER_CORE):
            postgres = stack.enter_context(
                PostgresServer(run.folder / "postgres", settings={"track_commit_timestamp": "on"})
            )
        extra = {"LOG_LEVEL": "warning", "FLUSH_MAX_SECONDS": str(FLUSH_MAX_SECONDS)}
        system = stack.enter_context(System(valkey.url, postgres.dsn(), run.folder / "logs", extra))
        await run_command("flusher", "migrate", **system.environment)
        with on_core(SERVER_CORE):
            collector = system.program("collector").start()
        with on_core(OTHER_CORE):
            flusher = system.program("flusher").start()
        await asyncio.gather(collector.ready(), flusher.ready())
        bare = await stack.enter_async_context(Baseline("bench.speed.baselines.bare", run.folder))
        database = await asyncpg.connect(postgres.dsn())
        stack.push_async_callback(database.close)
        run.say("the most that the collector answers")
        limit = await generators_limit(run.folder, 2.0)
        pid = collector.running.pid
        first = await put_load(system.port, pid, 2.0)  # each User-Agent is examined once
        most = await put_load(system.port, pid, run.seconds)
        await _settled(database, first.stored + most.stored)
        rate = most.load.per_second / 2
        turns: dict[str, list[Turn]] = {_OURS: [], _BARE: []}
        waits: list[float] = []
        behind: list[Turn] = []
        for number in range(1, run.rounds + 1):
            where = f"round {number} of {run.rounds}, at {rate:,.0f} requests/s"
            flusher.freeze()
            seconds = run.seconds / _PAIRS
            stored = 0
            for _ in range(_PAIRS):
                run.say(f"{where}: {_OURS}")
                turn = await put_load(system.port, pid, seconds, rate=rate, warm=1.0)
                turns[_OURS].append(turn)
                stored += turn.stored
                run.say(f"{where}: {_BARE}")
                turn = await put_load(bare.port, bare.pid, seconds, rate=rate, warm=1.0)
                turns[_BARE].append(turn)
            flusher.thaw()
            await _settled(database, stored)
            run.say(f"{where}: until the row can be read")
            turn = await put_load(system.port, pid, run.seconds, rate=rate, warm=1.0)
            waits.append(await _settled(database, turn.stored))
            behind.append(turn)
    generator = check_generator(limit, most.load.per_second)
    return _result(turns, behind, waits, rate, run.seconds / _PAIRS, generator)


def _result(
    turns: dict[str, list[Turn]],
    behind: list[Turn],
    waits: list[float],
    rate: float,
    seconds: float,
    generator: str,
) -> Result:
    def series(name: str, percentile: str) -> Series:
        values = tuple(turn.load.latencies_ms[percentile] for turn in turns[name])
        return Series(name, f"{percentile} of an answer, ms", values)

    flushed = tuple(turn.load.latencies_ms["p99"] for turn in behind)
    p99 = ratio(series(_OURS, "p99").values, series(_BARE, "p99").values)
    visible = Series(_OURS, "p99 until the row can be read, s", tuple(waits))
    bound = FLUSH_MAX_SECONDS + 0.5
    return Result(
        "latency",
        "Latency at half of the maximum load",
        (
            *(series(name, each) for each in ("p50", "p99", "p99.9") for name in (_OURS, _BARE)),
            Series("ours, a flusher at work", "p99 of an answer, ms", flushed),
            visible,
        ),
        (
            at_most(
                "collector latency at half of the maximum load, open loop, p99",
                "the bare application",
                1.5,
                p99,
            ),
            at_most(
                "beacon to visible row, p99, at half of the maximum load",
                f"`FLUSH_MAX_SECONDS` ({FLUSH_MAX_SECONDS:g} s) + 0.5 s",
                bound,
                visible,
                " s",
            ),
        ),
        (
            (
                f"{rate:,.0f} requests/s, in a Poisson process, on 64 connections; a latency "
                "counts from when its request was due. The ratio is the median of those of turns "
                f"of {seconds:g} s, one close behind the other."
            ),
            (
                "Redis is not bound to a core, as it is where the most is measured: there are two, "
                "each half idle."
            ),
            (
                "An answer's latency is measured with the flusher stopped, since on two cores it "
                "and PostgreSQL would share one with Redis and the generator; with it at work, and "
                "for the rows, in a turn of its own."
            ),
            (
                "A row can be read when its transaction has committed: PostgreSQL's own record of "
                "commits less `created_at`, for every row."
            ),
            generator,
        ),
    )


async def _settled(database: asyncpg.Connection, rows: int) -> float:
    """Waits for a turn's rows; the 99th percentile, in seconds, of how long they took.

    Raises:
        Unsound: there are not as many as were acknowledged.
    """

    async def count() -> int:
        return int(await database.fetchval("SELECT count(*) FROM sessions"))

    await eventually(count, lambda found: found >= rows, _SETTLE_SECONDS)
    seen = await database.fetchrow(_SECONDS_UNTIL_VISIBLE)
    if seen is None or seen[0] != rows:
        raise Unsound(f"{rows} requests were acknowledged, and the rows are {seen}")
    await database.execute("TRUNCATE sessions")
    return float(seen[1])
