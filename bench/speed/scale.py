"""What a session costs each process, with one Redis server and with a Redis Cluster.

Each layout is a whole system of its own, and all of them take turns under the same load.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from bench.speed.benchmark import Figure, Result, Run, Series, Unsound, ratio, reported
from bench.speed.contender import put_load
from bench.speed.flusher_rig import POSTGRES_SETTINGS, SETTINGS_NOTE
from bench.speed.machine import connections, cpu_seconds, resident_mib
from bench.speed.ours import Ours, start_ours, wait_for_rows
from embedded.cluster import Cluster
from embedded.system import Program
from embedded.valkey import ValkeyServer

# Each node syncs as the one server does, and may be silent while the cores are full.
_NODE: Final = {"appendfsync": "everysec", "cluster-node-timeout": "30000"}
# From the kept counts: a poll must not cost PostgreSQL as much as the sessions do.
_COUNTED: Final = "SELECT coalesce(sum(sessions), 0)::bigint FROM monthly_impact"
_ROWS: Final = "SELECT count(*) FROM sessions"
_PARTS: Final = ("collector", "flusher", "Valkey")
_COST: Final = "CPU µs a session"

_Measured = dict[tuple[str, str], float]
"""By part and quantity."""


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
_COMPARED: Final = ((_CLUSTER, _EIGHT), (_EIGHT, _ONE_SHARD), (_CLUSTER_FULL, _EIGHT))


async def measure(run: Run) -> Result:
    """Rounds of a turn each."""
    found: dict[_Layout, list[_Measured]] = {layout: [] for layout in _LAYOUTS}
    async with AsyncExitStack() as stack:
        rigs = [await _start(stack, run, layout) for layout in _LAYOUTS]
        for turn in range(run.rounds + 1):
            # In every second round the other way: the machine may get slower or faster meanwhile.
            for rig in rigs[:: 1 if turn % 2 else -1]:
                run.say(f"round {turn} of {run.rounds}, {rig.layout.name}")
                measured = await rig.turn(run.seconds)
                if turn:  # in the first, crawlerdetect examines each User-Agent once
                    found[rig.layout].append(measured)
    return _result(found)


@dataclass(frozen=True, slots=True)
class _Rig:
    """A running system."""

    layout: _Layout
    ours: Ours
    programs: Mapping[str, Program]
    redis: Sequence[ValkeyServer]

    async def turn(self, seconds: float) -> _Measured:
        """One turn, from the first request to the last row."""
        ours, collector = self.ours, self.ours.collector
        pids = self._pids()
        already = await ours.database.fetchval(_ROWS)
        writes = await collector.metrics()
        before = {part: cpu_seconds(*each) for part, each in pids.items()}
        began = time.monotonic()
        load = await put_load(ours.port, ours.pid, seconds, connections=self.layout.connections)
        await wait_for_rows(ours.database, already + load.stored, _COUNTED)
        took = time.monotonic() - began
        spent = {part: cpu_seconds(*each) - before[part] for part, each in pids.items()}
        rows = await ours.database.fetchval(_ROWS) - already
        if rows != load.stored:
            raise Unsound(f"{load.stored} requests were answered 201, and there are {rows} rows")
        written = await collector.metrics()
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

    def _pids(self) -> dict[str, list[int]]:
        pids = {
            **{part: [program.running.pid] for part, program in self.programs.items()},
            "Valkey": [server.pid for server in self.redis],
            "PostgreSQL": [self.ours.postgres.pid],
        }
        if self.layout.cluster:
            pids |= {f"primary {n}": [server.pid] for n, server in enumerate(self.redis, 1)}
        return pids


async def _start(stack: AsyncExitStack, run: Run, layout: _Layout) -> _Rig:
    run.say(f"starting: {layout.name}")
    folder = run.folder / layout.name
    extra = {"STREAM_SHARDS": str(layout.shards)}
    if layout.cluster:
        cluster = stack.enter_context(Cluster(folder / "nodes", replicas=False, config=_NODE))
        await cluster.form()
        redis, url = cluster.servers, cluster.url
        extra["REDIS_CLUSTER"] = "1"
    else:
        redis = [stack.enter_context(ValkeyServer(folder / "valkey"))]
        url = redis[0].url
    ours = await stack.enter_async_context(
        start_ours(folder, url, postgres_settings=POSTGRES_SETTINGS, extra=extra, bound=False)
    )
    programs = {"collector": ours.collector, "flusher": await ours.start_flusher()}
    return _Rig(layout, ours, programs, redis)


def _result(found: dict[_Layout, list[_Measured]]) -> Result:
    series = [
        Series(f"{layout.name}: {part}", quantity, tuple(turn[part, quantity] for turn in turns))
        for layout, turns in found.items()
        for part, quantity in turns[0]
    ]
    series.sort(key=lambda each: each.quantity)  # keeps the layouts' order
    return Result(
        "One Redis server or a cluster",
        tuple(series),
        tuple(_times(found, part, *pair) for pair in _COMPARED for part in _PARTS),
        (
            "User and system time of each process until the last row was stored, by the rows.",
            "The rows equalled the 201s. The servers and the generator share the cores.",
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
    return reported(f"{layout.name}: {part}, {_COST}", other.name, ratio(ours, others))
