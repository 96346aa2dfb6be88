"""How many requests a collector answers on one core, beside its limit and its baseline."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import redis

from bench.speed.benchmark import Result, Run, Series, Unsound, at_least, ratio
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
from contract import keys
from contract.entry import count_records
from contract.record import FIELD
from contract.settings import STREAM_SHARDS
from embedded.postgres import PostgresServer
from embedded.system import System
from embedded.valkey import ValkeyServer

_SHARDS = STREAM_SHARDS.read({})
_OURS, _BARE, _OBVIOUS = "ours", "bare aiohttp", "obvious design"
_WHAT = "collector, requests/s on one core"


async def measure(run: Run) -> Result:
    """Rounds of a turn each: ours, the bare application, the obvious design.

    Raises:
        Unsound: what was acknowledged is not stored, or the generator was the limit.
    """
    async with AsyncExitStack() as stack:
        with on_core(OTHER_CORE):
            valkey = stack.enter_context(ValkeyServer(run.folder / "valkey"))
            postgres = stack.enter_context(PostgresServer(run.folder / "postgres"))
        extra = {"LOG_LEVEL": "warning"}
        system = stack.enter_context(System(valkey.url, postgres.dsn(), run.folder / "logs", extra))
        with on_core(SERVER_CORE):
            collector = system.program("collector").start()
        await collector.ready()
        bare = await stack.enter_async_context(Baseline("bench.speed.baselines.bare", run.folder))
        obvious = await stack.enter_async_context(
            Baseline("bench.speed.baselines.obvious", run.folder, "--dsn", postgres.dsn())
        )
        run.say("the generator's own limit")
        limit = await generators_limit(run.folder, run.seconds)
        turns: dict[str, list[Turn]] = {_OURS: [], _BARE: [], _OBVIOUS: []}
        contenders = {
            _OURS: (system.port, collector.running.pid),
            _BARE: (bare.port, bare.pid),
            _OBVIOUS: (obvious.port, obvious.pid),
        }
        # The first round does not count: crawlerdetect examines each User-Agent once.
        for number in range(run.rounds + 1):
            for name, (port, pid) in contenders.items():
                run.say(f"round {number} of {run.rounds}, {name}{_so_far(turns)}")
                turn = await put_load(port, pid, run.seconds)
                if number:
                    turns[name].append(turn)
                if name == _OURS:
                    _check_streams(valkey.port, turn)
                elif name == _OBVIOUS:
                    await _check_rows(postgres.dsn(), turn)
        metrics = await collector.metrics()
    most = max(turn.load.per_second for each in turns.values() for turn in each)
    return _result(turns, check_generator(limit, most), _records_a_write(metrics))


def _so_far(turns: dict[str, list[Turn]]) -> str:
    last = [f"{name} {each[-1].load.per_second:,.0f}/s" for name, each in turns.items() if each]
    return f" ({', '.join(last)})" if last else ""


def _records_a_write(metrics: Mapping[str, float]) -> str:
    size = "impact_append_batch_size"
    mean = metrics[f"{size}_sum"] / metrics[f"{size}_count"]
    return f"A write to Redis carried {mean:.0f} records in the mean."


def _result(turns: dict[str, list[Turn]], generator: str, records_a_write: str) -> Result:
    rates = {name: [turn.load.per_second for turn in each] for name, each in turns.items()}
    costs = {name: [turn.per_cpu_second for turn in each] for name, each in turns.items()}
    return Result(
        "collector",
        "Collector: requests on one core",
        (
            *(Series(name, "requests/s", tuple(each)) for name, each in rates.items()),
            *(Series(name, "requests/CPU s", tuple(each)) for name, each in costs.items()),
        ),
        (
            at_least(_WHAT, "a bare aiohttp + uvloop application", 1.15, _of(rates, _BARE)),
            at_least("the same", "the obvious design", 5, _of(rates, _OBVIOUS)),
        ),
        (
            "A figure is the median of the rounds' ratios.",
            (
                "In requests a second of the server's own CPU time, which a neighbour on the "
                f"machine disturbs less: {_of(costs, _BARE).median:.2f} of the bare application, "
                f"{_of(costs, _OBVIOUS).median:.1f} times the obvious design."
            ),
            "After each turn the streams' records and the table's rows equalled the 201s.",
            records_a_write,
            generator,
        ),
        {
            _OURS: "`python -m collector`: 201 after Redis has acknowledged",
            _BARE: "an aiohttp + uvloop application whose handler reads the body and returns 201",
            _OBVIOUS: "aiohttp + uvloop, one instance of crawlerdetect, an `INSERT` a request by "
            "a pool of asyncpg, PostgreSQL as it comes (it syncs each commit)",
        },
    )


def _of(figures: dict[str, list[float]], other: str) -> Series:
    return ratio(figures[_OURS], figures[other])


def _check_streams(port: int, turn: Turn) -> None:
    """As many records as 201s; then none, for the next turn."""
    records = 0
    with redis.Redis(port=port) as client:
        for shard in range(_SHARDS):
            entries: Any = client.xrange(keys.stream(shard))
            records += sum(count_records(fields[FIELD]) for _, fields in entries)
            client.delete(keys.stream(shard), keys.joined(shard))
    if records != turn.stored or turn.stored != turn.answered:
        raise Unsound(f"{turn.answered} answers, {turn.stored} were 201, {records} records")


async def _check_rows(dsn: str, turn: Turn) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetchval("SELECT count(*) FROM obvious_sessions")
        await connection.execute("TRUNCATE obvious_sessions")
    finally:
        await connection.close()
    if rows != turn.stored or turn.stored != turn.answered:
        raise Unsound(f"{turn.answered} answers, {turn.stored} were 201, {rows} rows")
