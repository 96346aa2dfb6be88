"""CPU seconds a million sessions, of all processes, and Redis bytes a session that waits.

Ours is the collector, Valkey, the flusher and PostgreSQL; the obvious design is its application
and PostgreSQL. Each has servers of its own, and is charged until its last row is stored.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import redis

from bench.speed.benchmark import Figure, Measurements, Result, Run, at_most, number
from bench.speed.contender import OTHER_CORE, SERVER_CORE, Server, put_load, start_baseline
from bench.speed.machine import cpu_seconds, on_core
from bench.speed.ours import start_ours, wait_for_rows
from contract import keys
from contract.settings import STREAM_SHARDS
from embedded.postgres import PostgresServer

_SHARDS = range(STREAM_SHARDS.read({}))
_OURS, _OBVIOUS = "ours", "obvious design"
_COST = "CPU s a million sessions"


async def measure(run: Run) -> Result:
    """Rounds of a turn each."""
    measured = Measurements()
    ours = await start_ours(run.folder, run.stack, {}, core=OTHER_CORE)
    collector = await ours.start_collector(SERVER_CORE)
    run.say("Redis bytes a session")
    bytes_ = await _bytes_a_session(collector, ours.redis[0].port)
    await ours.start("flusher", OTHER_CORE)
    with on_core(OTHER_CORE):
        theirs = run.stack.enter_context(PostgresServer(run.folder / "theirs"))
    obvious = await start_baseline(run, "obvious", "--dsn", theirs.dsn())
    database = await asyncpg.connect(theirs.dsn())
    run.stack.push_async_callback(database.close)
    pids = {"application": [obvious.pid], "PostgreSQL": [theirs.pid]}
    contenders = {
        _OURS: (collector, ours.pids, ours.database, "sessions"),
        _OBVIOUS: (obvious, pids, database, "obvious_sessions"),
    }
    for turn, name in run.turns(contenders, warm_up=True):
        costs = await _cost(run.seconds, *contenders[name])
        if turn:
            measured.add(name, {_COST: sum(costs.values())})
            for part, cost in costs.items():
                measured.add(f"{name}: {part}", {"CPU s a million": cost})
    return _result(measured, *bytes_)


async def _cost(
    seconds: float,
    server: Server,
    pids: Mapping[str, Sequence[int]],
    database: asyncpg.Connection,
    table: str,
) -> dict[str, float]:
    """CPU seconds a million sessions, of each part, until the last row is stored."""
    before = {part: cpu_seconds(*each) for part, each in pids.items()}
    turn = await put_load(server, seconds)
    await wait_for_rows(database, turn.stored, f"SELECT count(*) FROM {table}")  # noqa: S608 - ours
    spent = {part: cpu_seconds(*each) - before[part] for part, each in pids.items()}
    await database.execute(f"TRUNCATE {table}")
    return {part: each / turn.stored * 1_000_000 for part, each in spent.items()}


async def _bytes_a_session(collector: Server, redis_port: int) -> tuple[float, float]:
    """Bytes of the streams a session: while all wait, and while all are pending with a flusher."""
    turn = await put_load(collector, 3.0)
    streams = [keys.stream(shard) for shard in _SHARDS]
    with redis.Redis(port=redis_port) as client:

        def used() -> float:
            sizes: Any = [client.memory_usage(stream, samples=0) for stream in streams]
            return float(sum(sizes)) / turn.stored

        waiting = used()
        for stream in streams:
            client.xgroup_create(stream, keys.GROUP, id="0")
            client.xreadgroup(keys.GROUP, "bench", {stream: ">"}, count=turn.stored)
        pending = used()
        client.delete(*streams, *map(keys.joined, _SHARDS))
    return waiting, pending


def _result(measured: Measurements, waiting: float, pending: float) -> Result:
    shown = f"{number(waiting)} ({number(pending)} while a flusher has it)"
    for name, bytes_ in (("waiting", waiting), ("pending", pending)):
        measured.add(name, {"Redis bytes a session": bytes_})
    return Result(
        "What a million sessions cost",
        measured,
        (
            at_most(
                "CPU seconds a million sessions, all processes, servers included",
                "the obvious design",
                0.2,
                measured.ratios(_COST, _OURS, _OBVIOUS),
            ),
            Figure("Redis bytes a buffered session", "", "≤ 100", waiting, shown, waiting <= 100),
        ),
        (
            "User and system time of each process and its children, until the last row was stored.",
            "The rows equalled the 201s.",
            "Redis bytes are `MEMORY USAGE` of the streams, for sites of 13 to 22 characters.",
            "Pending are only those sessions that a flusher is writing.",
        ),
    )
