"""How many requests a collector answers on one core, beside its limit and its baseline."""

from statistics import median
from typing import Any

import redis

from bench.speed.benchmark import Measurements, Result, Run, Unsound, at_least
from bench.speed.contender import (
    OTHER_CORE,
    SERVER_CORE,
    Turn,
    check_generator,
    put_load,
    start_baseline,
)
from bench.speed.ours import start_ours, wait_for_rows
from contract import keys
from contract.entry import count_records
from contract.record import FIELD
from contract.settings import STREAM_SHARDS

_OURS, _BARE, _OBVIOUS = "ours", "bare aiohttp", "obvious design"
_RATE, _PER_CPU = "requests/s", "requests/CPU s"


async def measure(run: Run) -> Result:
    """Rounds of a turn each: ours, the bare application, the obvious design."""
    measured = Measurements()
    ours = await start_ours(run.folder, run.stack, {}, core=OTHER_CORE)
    collector = await ours.start_collector(SERVER_CORE)
    bare = await start_baseline(run, "bare")
    obvious = await start_baseline(run, "obvious", "--dsn", ours.postgres.dsn())
    servers = {_OURS: collector, _BARE: bare, _OBVIOUS: obvious}
    for number, name in run.turns(servers, warm_up=True):
        turn = await put_load(servers[name], run.seconds)
        if number:
            measured.add(name, {_RATE: turn.per_second, _PER_CPU: turn.per_cpu_second})
        if name == _OURS:
            _check_streams(ours.redis[0].port, turn)
        elif name == _OBVIOUS:
            query = "SELECT count(*) FROM obvious_sessions"
            await wait_for_rows(ours.database, turn.stored, query)
            await ours.database.execute("TRUNCATE obvious_sessions")
    metrics = await collector.program.metrics()
    run.say("the generator's own limit")
    most = max(rate for name in servers for rate in measured.of(name, _RATE))
    generator = await check_generator(run, run.seconds, most)
    size = "impact_append_batch_size"
    records = metrics[f"{size}_sum"] / metrics[f"{size}_count"]
    return _result(measured, generator, records)


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


def _result(measured: Measurements, generator: str, records_a_write: float) -> Result:
    cpu_ratios = ", ".join(
        f"{median(measured.ratios(_PER_CPU, _OURS, other)):.2f} of the {other}'s"
        for other in (_BARE, _OBVIOUS)
    )
    of_bare = measured.ratios(_RATE, _OURS, _BARE)
    of_obvious = measured.ratios(_RATE, _OURS, _OBVIOUS)
    what = "collector, requests/s on one core"
    return Result(
        "Collector: requests on one core",
        measured,
        (
            at_least(what, "a bare aiohttp + uvloop application", 1.15, of_bare),
            at_least("the same", "the obvious design", 5, of_obvious),
        ),
        (
            f"**{_OURS}**: `python -m collector`: 201 after Redis has acknowledged.",
            f"**{_BARE}**: aiohttp + uvloop; the handler reads the body and returns 201.",
            f"**{_OBVIOUS}**: aiohttp + uvloop, one crawlerdetect, an `INSERT` a request.",
            "It has a pool of asyncpg, and PostgreSQL's defaults (each commit is synced).",
            f"By the server's own CPU time, which other load disturbs less: {cpu_ratios}.",
            "After each turn the streams' records and the table's rows equalled the 201s.",
            f"A write to Redis carried {records_a_write:.0f} records on average.",
            generator,
        ),
    )
