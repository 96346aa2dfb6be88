"""How many requests a collector answers on one core, beside its limit and its baseline."""

from contextlib import AsyncExitStack
from statistics import median
from typing import Any

import redis

from bench.speed.benchmark import Result, Run, Series, Unsound, at_least, ratio
from bench.speed.contender import (
    OTHER_CORE,
    Turn,
    check_generator,
    generators_limit,
    put_load,
    start_baseline,
)
from bench.speed.machine import on_core
from bench.speed.ours import start_ours, wait_for_rows
from contract import keys
from contract.entry import count_records
from contract.record import FIELD
from contract.settings import STREAM_SHARDS
from embedded.valkey import ValkeyServer

_OURS, _BARE, _OBVIOUS = "ours", "bare aiohttp", "obvious design"


async def measure(run: Run) -> Result:
    """Rounds of a turn each: ours, the bare application, the obvious design."""
    async with AsyncExitStack() as stack:
        with on_core(OTHER_CORE):
            valkey = stack.enter_context(ValkeyServer(run.folder / "valkey"))
        ours = await stack.enter_async_context(start_ours(run.folder, valkey.url))
        bare = await stack.enter_async_context(start_baseline("bare", run.folder))
        obvious = await stack.enter_async_context(
            start_baseline("obvious", run.folder, "--dsn", ours.postgres.dsn())
        )
        run.say("the generator's own limit")
        limit = await generators_limit(run.folder, run.seconds)
        turns: dict[str, list[Turn]] = {_OURS: [], _BARE: [], _OBVIOUS: []}
        # The first round does not count: crawlerdetect examines each User-Agent once.
        for number in range(run.rounds + 1):
            for name, server in ((_OURS, ours), (_BARE, bare), (_OBVIOUS, obvious)):
                run.say(f"round {number} of {run.rounds}, {name}")
                turn = await put_load(server.port, server.pid, run.seconds)
                if number:
                    turns[name].append(turn)
                if name == _OURS:
                    _check_streams(valkey.port, turn)
                elif name == _OBVIOUS:
                    await wait_for_rows(
                        ours.database, turn.stored, "SELECT count(*) FROM obvious_sessions"
                    )
                    await ours.database.execute("TRUNCATE obvious_sessions")
        metrics = await ours.collector.metrics()
    most = max(turn.load.per_second for each in turns.values() for turn in each)
    size = "impact_append_batch_size"
    records = metrics[f"{size}_sum"] / metrics[f"{size}_count"]
    return _result(turns, check_generator(limit, most), records)


def _check_streams(port: int, turn: Turn) -> None:
    """Checks that the streams have as many records as there were 201s, and empties them."""
    records = 0
    with redis.Redis(port=port) as client:
        for shard in range(STREAM_SHARDS.read({})):
            entries: Any = client.xrange(keys.stream(shard))
            records += sum(count_records(fields[FIELD]) for _, fields in entries)
            client.delete(keys.stream(shard), keys.joined(shard))
    if records != turn.stored:
        raise Unsound(f"{turn.stored} requests were answered 201, and there are {records} records")


def _result(turns: dict[str, list[Turn]], generator: str, records_a_write: float) -> Result:
    rates = {name: [turn.load.per_second for turn in each] for name, each in turns.items()}
    costs = {name: [turn.per_cpu_second for turn in each] for name, each in turns.items()}
    of_bare = ratio(rates[_OURS], rates[_BARE])
    of_obvious = ratio(rates[_OURS], rates[_OBVIOUS])
    cpu_ratios = ", ".join(
        f"{median(ratio(costs[_OURS], costs[other])):.2f} of the {other}'s"
        for other in (_BARE, _OBVIOUS)
    )
    what = "collector, requests/s on one core"
    return Result(
        "Collector: requests on one core",
        (
            *(Series(name, "requests/s", tuple(each)) for name, each in rates.items()),
            *(Series(name, "requests/CPU s", tuple(each)) for name, each in costs.items()),
        ),
        (
            at_least(what, "a bare aiohttp + uvloop application", 1.15, of_bare),
            at_least("the same", "the obvious design", 5, of_obvious),
        ),
        (
            "A figure is the median of the rounds' ratios.",
            f"By the server's own CPU time, which other load disturbs less: {cpu_ratios}.",
            "After each turn the streams' records and the table's rows equalled the 201s.",
            f"A write to Redis carried {records_a_write:.0f} records on average.",
            generator,
        ),
        {
            _OURS: "`python -m collector`: 201 after Redis has acknowledged",
            _BARE: "an aiohttp + uvloop application whose handler reads the body and returns 201",
            _OBVIOUS: "aiohttp + uvloop, one instance of crawlerdetect, an `INSERT` a request by "
            "a pool of asyncpg, PostgreSQL by default (it syncs each commit)",
        },
    )
