"""How long a beacon waits for its answer, and how long until its row can be read.

Open loop, at half of the collector's maximum rate: each latency counts from when the request was
due. The bare application gets the same rate.
"""

from importlib.resources import files

import asyncpg

from bench.speed.benchmark import Measurements, Result, Run, at_most
from bench.speed.contender import (
    OTHER_CORE,
    SERVER_CORE,
    Turn,
    check_generator,
    put_load,
    start_baseline,
)
from bench.speed.ours import start_ours, wait_for_rows

_FLUSH_MAX_SECONDS = 1.0
_OURS, _BARE = "ours", "bare aiohttp"
_VISIBLE = "p99 until the row can be read, s"
# The turns are short and close together: if the machine stalls, it spoils one pair, not a round.
_PAIRS = 4
_SECONDS_UNTIL_VISIBLE = files("bench.speed").joinpath("seconds_until_visible.sql").read_text()


async def measure(run: Run) -> Result:
    """Rounds of turns: ours and the bare application by turns, then ours with a flusher."""
    measured = Measurements()
    # The kernel chooses its core. On the generator's core, Redis would wait while the generator
    # runs. The bare application needs no Redis, and would not wait.
    ours = await start_ours(
        run.folder,
        run.stack,
        {"FLUSH_MAX_SECONDS": str(_FLUSH_MAX_SECONDS)},
        core=OTHER_CORE,
        redis_on_any_core=True,
        postgres_settings={"track_commit_timestamp": "on"},
    )
    collector = await ours.start_collector(SERVER_CORE)
    flusher = await ours.start("flusher", OTHER_CORE)
    bare = await start_baseline(run, "bare")
    run.say("the collector's maximum rate")
    first = await put_load(collector, 2.0)  # each User-Agent is examined once
    most = await put_load(collector, run.seconds)
    await _wait_until_visible(ours.database, first.stored + most.stored)
    rate = most.per_second / 2
    for number in range(1, run.rounds + 1):
        run.say(f"round {number} of {run.rounds}, at {rate:,.0f} requests/s")
        flusher.freeze()
        stored = 0
        for _ in range(_PAIRS):
            for name, server in ((_OURS, collector), (_BARE, bare)):
                turn = await put_load(server, run.seconds / _PAIRS, rate=rate, warm=1.0)
                measured.add(name, _latencies(turn, "p50", "p99", "p99.9"))
                stored += turn.stored if name == _OURS else 0
        flusher.thaw()
        await _wait_until_visible(ours.database, stored)
        run.say(f"round {number} of {run.rounds}: until the row can be read")
        turn = await put_load(collector, run.seconds, rate=rate, warm=1.0)
        measured.add(_OURS, {_VISIBLE: await _wait_until_visible(ours.database, turn.stored)})
        measured.add("ours, a flusher at work", _latencies(turn, "p99"))
    generator = await check_generator(run, 2.0, most.per_second)
    return _result(measured, rate, run.seconds / _PAIRS, generator)


async def _wait_until_visible(database: asyncpg.Connection, rows: int) -> float:
    """Waits for a turn's rows; the 99th percentile, in seconds, of how long they took."""
    await wait_for_rows(database, rows)
    seconds = await database.fetchval(_SECONDS_UNTIL_VISIBLE)
    await database.execute("TRUNCATE sessions")
    return float(seconds)


def _latencies(turn: Turn, *percentiles: str) -> dict[str, float]:
    return {f"{each} of an answer, ms": turn.latencies_ms[each] for each in percentiles}


def _result(measured: Measurements, rate: float, seconds: float, generator: str) -> Result:
    return Result(
        "Latency at half of the maximum load",
        measured,
        (
            at_most(
                "collector latency at half of the maximum load, open loop, p99",
                "the bare application",
                1.5,
                measured.ratios("p99 of an answer, ms", _OURS, _BARE),
            ),
            at_most(
                "beacon to visible row, p99, at half of the maximum load",
                f"`FLUSH_MAX_SECONDS` ({_FLUSH_MAX_SECONDS:g} s) + 0.5 s",
                _FLUSH_MAX_SECONDS + 0.5,
                measured.of(_OURS, _VISIBLE),
                " s",
            ),
        ),
        (
            f"{rate:,.0f} requests/s, in a Poisson process, on 64 connections.",
            "A latency counts from when its request was due.",
            f"The ratio is the median of pairs of turns of {seconds:g} s.",
            "Redis is not bound to a core, as it is where the most is measured.",
            "The flusher is stopped while these turns run: with it, two cores are too few.",
            "With the flusher at work, and for the rows, a turn of its own is measured.",
            "A row can be read when PostgreSQL has recorded the commit of its transaction.",
            generator,
        ),
    )
