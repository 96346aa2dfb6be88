"""What a session costs each process, with one Redis server and with a Redis Cluster.

Each layout is a whole system of its own, and all of them take turns under the same load.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.speed.benchmark import Measurements, Result, Run, Unsound, reported
from bench.speed.contender import Server, put_load
from bench.speed.flusher_rig import POSTGRES_SETTINGS, SETTINGS_NOTE
from bench.speed.machine import connections_to, cpu_seconds, resident_mib
from bench.speed.ours import Ours, start_ours, wait_for_rows
from embedded.cluster import Cluster
from embedded.valkey import ValkeyServer

# Each node syncs as the single server does. Busy cores must not make it count as failed.
_NODE: Final = {"appendfsync": "everysec", "cluster-node-timeout": "30000"}
# The kept counts are read while rows are awaited: counting all sessions would cost much CPU time.
_COUNTED: Final = "SELECT coalesce(sum(sessions), 0)::bigint FROM monthly_impact"
_ROWS: Final = "SELECT count(*) FROM sessions"
_PARTS: Final = ("collector", "flusher", "Valkey")
_COST: Final = "CPU µs a session"


@dataclass(frozen=True, slots=True)
class _Layout:
    shards: int
    cluster: bool = False
    connections: int = 64


_ONE_SHARD: Final = "one server, 1 shard"
_EIGHT: Final = "one server, 8 shards"
_CLUSTER: Final = "three primaries, 8 shards"
_CLUSTER_FULL: Final = "three primaries, 8 shards, 192 connections"
_LAYOUTS: Final = {
    _ONE_SHARD: _Layout(1),
    _EIGHT: _Layout(8),
    _CLUSTER: _Layout(8, cluster=True),
    # Then a write to a primary has as many records as one to the single server from 64.
    _CLUSTER_FULL: _Layout(8, cluster=True, connections=192),
}
_COMPARED: Final = ((_CLUSTER, _EIGHT), (_EIGHT, _ONE_SHARD), (_CLUSTER_FULL, _EIGHT))


async def measure(run: Run) -> Result:
    """Rounds of a turn each."""
    measured = Measurements()
    systems = {name: await _start(run, name) for name in _LAYOUTS}
    for number, name in run.turns(systems, warm_up=True):
        found = await _turn(*systems[name], _LAYOUTS[name].connections, run.seconds)
        if number:
            for part, quantities in found.items():
                measured.add(f"{name}: {part}", quantities)
    return Result(
        "One Redis server or a cluster",
        measured,
        tuple(
            reported(
                f"{name}: {part}, {_COST}",
                other,
                measured.ratios(_COST, f"{name}: {part}", f"{other}: {part}"),
            )
            for name, other in _COMPARED
            for part in _PARTS
        ),
        (
            "User and system time of each process until the last row was stored, by the rows.",
            "The rows equalled the 201s. The servers and the generator share the cores.",
            "Rows a second from the first request to the last row. One process of each.",
            SETTINGS_NOTE,
        ),
    )


async def _start(run: Run, name: str) -> tuple[Ours, Server]:
    run.say(f"starting: {name}")
    folder = run.folder / name
    settings = {"STREAM_SHARDS": str(_LAYOUTS[name].shards)}
    nodes: Sequence[ValkeyServer] = ()
    if _LAYOUTS[name].cluster:
        settings["REDIS_CLUSTER"] = "1"
        cluster = run.stack.enter_context(Cluster(folder / "nodes", replicas=False, config=_NODE))
        await cluster.form()
        nodes = cluster.servers
    ours = await start_ours(
        folder, run.stack, settings, postgres_settings=POSTGRES_SETTINGS, nodes=nodes
    )
    collector = await ours.start_collector()
    await ours.start("flusher")
    return ours, collector


async def _turn(
    ours: Ours, collector: Server, connections: int, seconds: float
) -> dict[str, dict[str, float]]:
    """One turn, from the first request to the last row; its quantities by part."""
    pids = ours.pids
    already = await ours.database.fetchval(_ROWS)
    writes = await collector.program.metrics()
    before = {part: cpu_seconds(*each) for part, each in pids.items()}
    began = time.monotonic()
    load = await put_load(collector, seconds, connections=connections)
    await wait_for_rows(ours.database, already + load.stored, _COUNTED)
    took = time.monotonic() - began
    spent = {part: cpu_seconds(*each) - before[part] for part, each in pids.items()}
    rows = await ours.database.fetchval(_ROWS) - already
    if rows != load.stored:
        raise Unsound(f"{load.stored} requests were answered 201, and there are {rows} rows")
    written = await collector.program.metrics()
    records, count = (
        written[name] - writes[name]
        for name in ("impact_append_batch_size_sum", "impact_append_batch_size_count")
    )
    found = {part: {_COST: each / rows * 1e6} for part, each in spent.items()}
    ports = {server.port for server in ours.redis}
    for part in ("collector", "flusher"):
        found[part]["connections to Redis"] = connections_to(ports, *pids[part])
        found[part]["MiB resident"] = resident_mib(*pids[part])
    found["collector"]["records a write"] = records / count
    return {**found, "all": {"rows/s": rows / took}}
