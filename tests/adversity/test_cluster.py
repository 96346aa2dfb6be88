"""A Redis Cluster whose primaries die, freeze and hand over slots, under load."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from contract import keys
from embedded.cluster import Cluster, shards_of
from tests.adversity.rig import DURABLE, FINE, Rig, on_cluster
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres

pytestmark = pytest.mark.long


async def test_a_primary_that_is_killed_or_freezes(tmp_path: Path) -> None:
    """Its replica takes its place, it comes back as that one's replica, and the other way round."""
    async with running(tmp_path, DURABLE) as (rig, cluster):
        for _ in range(2):
            killed = cluster.primary_of(keys.stream(0))
            killed.kill()
            await cluster.fails_over(killed)
            await asyncio.to_thread(killed.start)
            await cluster.follows(killed)
            await rig.sends(40)
        frozen = cluster.primary_of(keys.stream(0))
        frozen.freeze()
        await cluster.fails_over(frozen)
        await rig.sends(40)
        frozen.thaw()
        await cluster.follows(frozen)
        await rig.sends(40)
        assert rig.statuses() <= {*FINE, 503}
        (collector,) = rig.collectors
        began, ended = map(collector.log.find, ("can't be written", "are written again"))
        assert 0 < began < ended


async def test_shards_that_move_while_they_are_written_and_read(tmp_path: Path) -> None:
    async with running(tmp_path) as (rig, cluster):
        for shard in range(8):
            here = cluster.primary_of(keys.stream(shard))
            for target in cluster.servers[:3]:
                if target is not here:
                    await asyncio.to_thread(cluster.move, keys.stream(shard), target)
            await rig.sends(10)
        assert rig.statuses() <= FINE, "front-ends notice nothing of it"
        programs = [*rig.collectors, *rig.flushers]
        assert all("MovedError" not in program.log for program in programs)


async def test_a_shard_that_stays_half_moved(tmp_path: Path) -> None:
    """Its stream is where it goes to, and the slot still where it was: -ASK, all the time."""
    async with running(tmp_path) as (rig, cluster):
        here = cluster.primary_of(keys.stream(0))
        target = next(server for server in cluster.servers[:3] if server is not here)
        with cluster.moving(keys.stream(0), target):
            await rig.sends(150)
        await rig.sends(40)
        assert 0 in shards_of(cluster, target)
        assert rig.statuses() <= FINE


@asynccontextmanager
async def running(
    folder: Path, settings: dict[str, str] | None = None
) -> AsyncIterator[tuple[Rig, Cluster]]:
    with CopiedPostgres(folder / "postgres", settings=POSTGRES_SETTINGS) as postgres:
        async with on_cluster(folder, postgres.dsn(), settings) as rig_and_cluster:
            yield rig_and_cluster
