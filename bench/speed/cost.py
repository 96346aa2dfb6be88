"""CPU seconds a million sessions, of all processes, and Redis bytes a session that waits.

Ours is the collector, Valkey, the flusher and PostgreSQL; the obvious design is its application
and PostgreSQL. Each has servers of its own, and is charged until its last row is stored.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import redis

from bench.speed.benchmark import Figure, Result, Run, Series, at_most, number, ratio
from bench.speed.contender import OTHER_CORE, put_load, start_baseline
from bench.speed.machine import cpu_seconds, on_core
from bench.speed.ours import start_ours, wait_for_rows
from contract import keys
from contract.settings import STREAM_SHARDS
from embedded.postgres import PostgresServer
from embedded.valkey import ValkeyServer

_SHARDS = range(STREAM_SHARDS.read({}))
_OURS, _OBVIOUS = "ours", "obvious design"
_MILLION = 1_000_000
_PARTS = ("collector", "Valkey", "flusher", "PostgreSQL")


async def measure(run: Run) -> Result:
    """Rounds of a turn each."""
    ours_costs: list[list[float]] = []
    obvious_costs: list[list[float]] = []
    async with AsyncExitStack() as stack:
        with on_core(OTHER_CORE):
            valkey = stack.enter_context(ValkeyServer(run.folder / "valkey"))
            theirs = stack.enter_context(PostgresServer(run.folder / "theirs"))
        ours = await stack.enter_async_context(start_ours(run.folder, valkey.url))
        run.say("Redis bytes a session")
        bytes_ = await _bytes_a_session(valkey, ours.port, ours.pid)
        flusher = await ours.start_flusher()
        obvious = await stack.enter_async_context(
            start_baseline("obvious", run.folder, "--dsn", theirs.dsn())
        )
        database = await asyncpg.connect(theirs.dsn())
        stack.push_async_callback(database.close)
        pids = (ours.pid, valkey.pid, flusher.running.pid, ours.postgres.pid)
        for turn in range(run.rounds + 1):
            run.say(f"round {turn} of {run.rounds}, {_OURS}")
            parts = await _cost(ours.port, pids, run.seconds, ours.database, "sessions")
            run.say(f"round {turn} of {run.rounds}, {_OBVIOUS}")
            both = (obvious.pid, theirs.pid)
            other = await _cost(obvious.port, both, run.seconds, database, "obvious_sessions")
            if turn:  # in the first, crawlerdetect examines each User-Agent once
                ours_costs.append(parts)
                obvious_costs.append(other)
    return _result(ours_costs, obvious_costs, *bytes_)


async def _cost(
    port: int, pids: Sequence[int], seconds: float, database: asyncpg.Connection, table: str
) -> list[float]:
    """CPU seconds a million sessions, of each process, until the last row is stored."""
    before = [cpu_seconds(pid) for pid in pids]
    turn = await put_load(port, pids[0], seconds)
    await wait_for_rows(database, turn.stored, f"SELECT count(*) FROM {table}")  # noqa: S608 - ours
    spent = [cpu_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
    await database.execute(f"TRUNCATE {table}")
    return [each / turn.stored * _MILLION for each in spent]


async def _bytes_a_session(valkey: ValkeyServer, port: int, pid: int) -> tuple[float, float]:
    """Bytes of the streams a session: while all wait, and while all are pending with a flusher."""
    turn = await put_load(port, pid, 3.0)
    with redis.Redis(port=valkey.port) as client:
        streams = [keys.stream(shard) for shard in _SHARDS]
        waiting = _bytes_of(client, streams)
        for stream in streams:
            client.xgroup_create(stream, keys.GROUP, id="0")
            client.xreadgroup(keys.GROUP, "bench", {stream: ">"}, count=turn.stored)
        pending = _bytes_of(client, streams)
        client.delete(*streams, *map(keys.joined, _SHARDS))
    return waiting / turn.stored, pending / turn.stored


def _bytes_of(client: "redis.Redis", streams: Sequence[str]) -> int:
    used: Any = [client.memory_usage(stream, samples=0) for stream in streams]
    return int(sum(used))


def _result(
    ours: list[list[float]], obvious: list[list[float]], waiting: float, pending: float
) -> Result:
    totals = {
        _OURS: tuple(sum(parts) for parts in ours),
        _OBVIOUS: tuple(sum(parts) for parts in obvious),
    }
    parts = zip(_PARTS, zip(*ours, strict=True), strict=True)
    shown = f"{number(waiting)} ({number(pending)} while a flusher has it)"
    return Result(
        "What a million sessions cost",
        (
            *(Series(name, "CPU s a million sessions", each) for name, each in totals.items()),
            *(Series(f"ours: {name}", "CPU s a million", each) for name, each in parts),
            Series("waiting", "Redis bytes a session", (waiting,)),
            Series("pending", "Redis bytes a session", (pending,)),
        ),
        (
            at_most(
                "CPU seconds a million sessions, all processes, servers included",
                "the obvious design",
                0.2,
                ratio(totals[_OURS], totals[_OBVIOUS]),
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
