"""CPU seconds a million sessions, of all processes, and Redis bytes a session that waits.

Ours is the collector, Valkey, the flusher and PostgreSQL; the obvious design is its application
and PostgreSQL. Each side has servers of its own, and is charged until its last row is there.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import redis

from bench.speed.benchmark import Figure, Result, Run, Series, Unsound, at_most, number, ratio
from bench.speed.contender import OTHER_CORE, SERVER_CORE, Baseline, put_load
from bench.speed.machine import cpu_seconds, on_core
from contract import keys
from contract.settings import STREAM_SHARDS
from embedded.postgres import PostgresServer
from embedded.system import System, eventually, run_command
from embedded.valkey import ValkeyServer

_SHARDS = STREAM_SHARDS.read({})
_SETTLE_SECONDS = 60.0
_OURS, _OBVIOUS = "ours", "obvious design"
_MILLION = 1_000_000
_PARTS = ("collector", "Valkey", "flusher", "PostgreSQL")


async def measure(run: Run) -> Result:
    """Rounds of a turn each.

    Raises:
        Unsound: rows are missing.
    """
    async with AsyncExitStack() as stack:
        with on_core(OTHER_CORE):
            valkey = stack.enter_context(ValkeyServer(run.folder / "valkey"))
            ours = stack.enter_context(PostgresServer(run.folder / "ours"))
            theirs = stack.enter_context(PostgresServer(run.folder / "theirs"))
        system = stack.enter_context(
            System(
                valkey.url,
                ours.dsn(),
                run.folder / "logs",
                {"LOG_LEVEL": "warning", "FLUSH_MAX_SECONDS": "1"},
            )
        )
        await run_command("flusher", "migrate", **system.environment)
        with on_core(SERVER_CORE):
            collector = system.program("collector").start()
        await collector.ready()
        run.say("Redis bytes a session")
        waiting = await _bytes_a_session(valkey, system.port, collector.running.pid)
        with on_core(OTHER_CORE):
            flusher = system.program("flusher").start()
        await flusher.ready()
        obvious = await stack.enter_async_context(
            Baseline("bench.speed.baselines.obvious", run.folder, "--dsn", theirs.dsn())
        )
        pids = (collector.running.pid, valkey.pid, flusher.running.pid, ours.pid)
        costs: dict[str, list[float]] = {_OURS: [], _OBVIOUS: []}
        parts: list[list[float]] = []
        for turn in range(run.rounds + 1):
            run.say(f"round {turn} of {run.rounds}, {_OURS}")
            each = await _cost(system.port, pids, run.seconds, ours.dsn(), "sessions")
            run.say(f"round {turn} of {run.rounds}, {_OBVIOUS}")
            pair = (obvious.pid, theirs.pid)
            other = await _cost(obvious.port, pair, run.seconds, theirs.dsn(), "obvious_sessions")
            if turn:  # in the first, crawlerdetect examines each User-Agent once
                parts.append(each)
                costs[_OURS].append(sum(each))
                costs[_OBVIOUS].append(sum(other))
    return _result(costs, parts, waiting)


async def _cost(
    port: int, pids: Sequence[int], seconds: float, dsn: str, table: str
) -> list[float]:
    """CPU seconds a million sessions, a process each, until the last row is there."""
    database = await asyncpg.connect(dsn)
    try:
        before = [cpu_seconds(pid) for pid in pids]
        turn = await put_load(port, pids[0], seconds)

        async def rows() -> int:
            return int(await database.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608 - ours

        await eventually(rows, lambda found: found >= turn.stored, _SETTLE_SECONDS)
        spent = [cpu_seconds(pid) - spent for pid, spent in zip(pids, before, strict=True)]
        if await rows() != turn.stored or turn.stored != turn.answered:
            raise Unsound(f"{turn.answered} answers, {turn.stored} were 201, {await rows()} rows")
        await database.execute(f"TRUNCATE {table}")
    finally:
        await database.close()
    return [each / turn.stored * _MILLION for each in spent]


async def _bytes_a_session(valkey: ValkeyServer, port: int, pid: int) -> tuple[float, float]:
    """Bytes of the streams a session: while all wait, and while all are pending with a flusher."""
    turn = await put_load(port, pid, 3.0)
    with redis.Redis(port=valkey.port) as client:
        streams = [keys.stream(shard) for shard in range(_SHARDS)]
        waiting = _bytes_of(client, streams)
        for stream in streams:
            client.xgroup_create(stream, keys.GROUP, id="0")
            client.xreadgroup(keys.GROUP, "bench", {stream: ">"}, count=turn.stored)
        pending = _bytes_of(client, streams)
        client.delete(*streams, *map(keys.joined, range(_SHARDS)))
    return waiting / turn.stored, pending / turn.stored


def _bytes_of(client: "redis.Redis", streams: Sequence[str]) -> int:
    used: Any = [client.memory_usage(stream, samples=0) for stream in streams]
    return int(sum(used))


def _result(
    costs: dict[str, list[float]], parts: list[list[float]], bytes_: tuple[float, float]
) -> Result:
    waiting, pending = bytes_
    by_part = [
        Series(name, "CPU s a million", each)
        for name, each in zip(_PARTS, zip(*parts, strict=True), strict=True)
    ]
    third = ratio(costs[_OURS], costs[_OBVIOUS])
    shown = f"{number(waiting)} ({number(pending)} while a flusher has it)"
    return Result(
        "cost",
        "What a million sessions cost",
        (
            *(
                Series(name, "CPU s a million sessions", tuple(each))
                for name, each in costs.items()
            ),
            *(Series(f"ours: {part.contender}", part.quantity, part.values) for part in by_part),
            Series("waiting", "Redis bytes a session", (waiting,)),
            Series("pending", "Redis bytes a session", (pending,)),
        ),
        (
            at_most(
                "CPU seconds a million sessions, all processes, servers included",
                "the obvious design",
                0.2,
                third,
            ),
            Figure("Redis bytes a buffered session", "", "≤ 100", waiting, shown, waiting <= 100),
        ),
        (
            (
                "User and system time of each process and its children, from before a turn until "
                "the turn's last row was there; the rows equalled the 201s."
            ),
            (
                "Redis bytes are `MEMORY USAGE` of all streams by their sessions, for sites of 13 "
                "to 22 characters. Only what a flusher is just writing is pending."
            ),
        ),
        {
            _OURS: "`python -m collector`, Valkey, `python -m flusher`, PostgreSQL",
            _OBVIOUS: "aiohttp + uvloop, an `INSERT` a request, PostgreSQL",
        },
    )
