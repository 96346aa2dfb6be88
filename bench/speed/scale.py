"""What a session costs each process, with one Redis server and with a Redis Cluster.

Each layout is a whole system of its own, and all of them take turns under the same load.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import asyncpg

from bench.speed.benchmark import Figure, Result, Run, Series, Unsound, number, ratio
from bench.speed.contender import put_load
from bench.speed.flusher_rig import POSTGRES_SETTINGS, SETTINGS_NOTE
from bench.speed.machine import connections, cpu_seconds, resident_mib
from embedded.cluster import Cluster
from embedded.postgres import PostgresServer
from embedded.system import Program, System, eventually, run_command
from embedded.valkey import ValkeyServer

_SETTLE_SECONDS: Final = 120.0
# Each node syncs as the one server does, and may be silent while the cores are full.
_NODE: Final = {"appendfsync": "everysec", "cluster-node-timeout": "30000"}
# From the kept counts: looking must not cost PostgreSQL what the sessions cost.
_COUNTED: Final = "SELECT coalesce(sum(sessions), 0)::bigint FROM monthly_impact"
_ROWS: Final = "SELECT count(*) FROM sessions"
_PARTS: Final = ("collector", "flusher", "Valkey")
_COST: Final = "CPU µs a session"


@dataclass(frozen=True, slots=True)
class _Layout:
    name: str
    shards: int
    cluster: bool = False
    connections: int = 64


_ONE_SHARD: Final = _Layout("one server, 1 shard", 1)
_EIGHT: Final = _Layout("one server, 8 shards", 8)
_CLUSTER: Final = _Layout("three primaries, 8 shards", 8, cluster=True)
# So that each primary gets as many records a write as one server does from 64.
_CLUSTER_FULL: Final = _Layout(
    "three primaries, 8 shards, 192 connections", 8, cluster=True, connections=192
)
_LAYOUTS: Final = (_ONE_SHARD, _EIGHT, _CLUSTER, _CLUSTER_FULL)

_Measured = dict[tuple[str, str], float]
"""By part and quantity."""


async def measure(run: Run) -> Result:
    """Rounds of a turn each.

    Raises:
        Unsound: rows are missing.
    """
    found: dict[_Layout, list[_Measured]] = {layout: [] for layout in _LAYOUTS}
    async with AsyncExitStack() as stack:
        rigs = {layout: await _start(stack, run, layout) for layout in _LAYOUTS}
        for turn in range(run.rounds + 1):
            # In every second round the other way: the machine may get slower or faster meanwhile.
            for layout, rig in list(rigs.items())[:: 1 if turn % 2 else -1]:
                run.say(f"round {turn} of {run.rounds}, {layout.name}")
                measured = await rig.turn(run.seconds)
                if turn:  # in the first, crawlerdetect examines each User-Agent once
                    found[layout].append(measured)
    return _result(found)


@dataclass(frozen=True, slots=True)
class _Rig:
    """A running system."""

    layout: _Layout
    port: int
    programs: Mapping[str, Program]
    redis: Sequence[ValkeyServer]
    postgres: PostgresServer
    database: asyncpg.Connection

    async def turn(self, seconds: float) -> _Measured:
        """One turn, from the first request to the last row."""
        parts = {
            **{part: [program.running.pid] for part, program in self.programs.items()},
            "Valkey": [server.pid for server in self.redis],
            "PostgreSQL": [self.postgres.pid],
        }
        if self.layout.cluster:
            parts |= {f"primary {n}": [server.pid] for n, server in enumerate(self.redis, 1)}
        already = await self.database.fetchval(_ROWS)
        writes = await self.programs["collector"].metrics()
        before = {part: cpu_seconds(*pids) for part, pids in parts.items()}
        began = time.monotonic()
        (pid,) = parts["collector"]
        load = await put_load(self.port, pid, seconds, connections=self.layout.connections)
        await eventually(
            lambda: self.database.fetchval(_COUNTED),
            lambda counted: counted >= already + load.stored,
            _SETTLE_SECONDS,
        )
        took = time.monotonic() - began
        spent = {part: cpu_seconds(*pids) - before[part] for part, pids in parts.items()}
        rows = await self.database.fetchval(_ROWS) - already
        if not rows == load.stored == load.answered:
            raise Unsound(f"{load.answered} answers, {load.stored} were 201, {rows} rows")
        written = await self.programs["collector"].metrics()
        records, count = (
            written[name] - writes[name]
            for name in ("impact_append_batch_size_sum", "impact_append_batch_size_count")
        )
        measured = {(part, _COST): each / rows * 1e6 for part, each in spent.items()}
        ports = {server.port for server in self.redis}
        for part, program in self.programs.items():
            measured[part, "connections to Redis"] = connections(program.running.pid, ports)
            measured[part, "MiB resident"] = resident_mib(program.running.pid)
        measured["collector", "records a write"] = records / count
        measured["all", "rows/s"] = rows / took
        return measured


async def _start(stack: AsyncExitStack, run: Run, layout: _Layout) -> _Rig:
    run.say(f"starting: {layout.name}")
    folder = run.folder / layout.name
    extra = {
        "LOG_LEVEL": "warning",
        "FLUSH_MAX_SECONDS": "1",
        "STREAM_SHARDS": str(layout.shards),
    }
    if layout.cluster:
        cluster = stack.enter_context(Cluster(folder / "nodes", replicas=False, config=_NODE))
        await cluster.form()
        redis, url = cluster.servers, cluster.url
        extra["REDIS_CLUSTER"] = "1"
    else:
        redis = [stack.enter_context(ValkeyServer(folder / "valkey"))]
        url = redis[0].url
    postgres = PostgresServer(folder / "postgres", settings=POSTGRES_SETTINGS)
    stack.enter_context(postgres)
    system = stack.enter_context(System(url, postgres.dsn(), folder / "logs", extra))
    await run_command("flusher", "migrate", **system.environment)
    _, collector, flusher = await system.start("rotation", "collector", "flusher")
    database = await asyncpg.connect(postgres.dsn())
    stack.push_async_callback(database.close)
    programs = {"collector": collector, "flusher": flusher}
    return _Rig(layout, system.port, programs, redis, postgres, database)


def _result(found: dict[_Layout, list[_Measured]]) -> Result:
    series = [
        Series(f"{layout.name}: {part}", quantity, tuple(turn[part, quantity] for turn in turns))
        for layout, turns in found.items()
        for part, quantity in turns[0]
    ]
    series.sort(key=lambda each: each.quantity)  # keeps the layouts' order
    return Result(
        "scale",
        "One Redis server or a cluster",
        tuple(series),
        (
            *(_times(found, part, _CLUSTER, _EIGHT) for part in _PARTS),
            *(_times(found, part, _EIGHT, _ONE_SHARD) for part in _PARTS),
            *(_times(found, part, _CLUSTER_FULL, _EIGHT) for part in _PARTS),
        ),
        (
            (
                "User and system time of each process until the turn's last row was there, by the "
                "rows, which equalled the 201s; the servers and the generator on the same cores."
            ),
            "Rows a second from the first request to the last row. One process of each.",
            "A figure is the median of the rounds' ratios.",
            SETTINGS_NOTE,
        ),
    )


def _times(
    found: dict[_Layout, list[_Measured]], part: str, layout: _Layout, other: _Layout
) -> Figure:
    """How many times the other layout's cost it is."""
    ours, others = ([turn[part, _COST] for turn in found[each]] for each in (layout, other))
    times = ratio(ours, others)
    shown = f"{number(times.median)} ({number(times.least)} to {number(times.most)})"
    what = f"{layout.name}: {part}, {_COST}"
    return Figure(what, other.name, "reported", times.median, shown, None)
