"""Failovers under load: of one Redis, and of everything in one run."""

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from contract import keys
from embedded.valkey import ValkeyServer
from tests.adversity.breakable_proxy import BreakableProxy
from tests.adversity.rig import DURABLE, FINE, on_cluster, under_load
from tests.replicated import replicated
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres
from tests.system import eventually

pytestmark = pytest.mark.long


async def test_an_address_that_moves_from_a_redis_to_its_replica(tmp_path: Path) -> None:
    """Handed over, with the connections to the old primary open, and then killed."""
    config = {"appendfsync": "always", "repl-diskless-sync-delay": "0"}
    one, other = (ValkeyServer(tmp_path / name, config=config) for name in ("one", "other"))
    postgres = CopiedPostgres(tmp_path / "postgres", settings=POSTGRES_SETTINGS)
    with one, other, postgres:
        await _follow(other, one)
        async with BreakableProxy(one.port) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}"
            async with under_load(tmp_path / "logs", url, postgres.dsn(), DURABLE) as rig:
                async with Redis(port=one.port) as asked:
                    await _do(asked, "FAILOVER")
                    await eventually(asked.role, lambda role: role[0] == b"slave")
                proxy.lead_to(other.port)
                await rig.sends(100)
                assert rig.statuses() <= FINE, "front-ends notice nothing of it"

                other.kill()
                async with Redis(port=one.port) as asked:
                    await _do(asked, "REPLICAOF", "NO", "ONE")
                proxy.lead_to(one.port)
                await asyncio.to_thread(other.start)
                await _follow(other, one)
                await rig.sends(100)


async def _follow(replica: ValkeyServer, primary: ValkeyServer) -> None:
    async with Redis(port=replica.port) as asked:
        await _do(asked, "REPLICAOF", "127.0.0.1", primary.port)
        await eventually(
            lambda: asked.info("replication"), lambda info: info.get("master_link_status") == "up"
        )


async def _do(redis: Redis, *words: object) -> None:
    await redis.execute_command(*words)  # type: ignore[no-untyped-call]  # the library has no types here


async def test_everything_is_killed_in_one_run(tmp_path: Path) -> None:
    """A primary of the cluster, PostgreSQL's, a collector and a flusher, each under load."""
    async with (
        replicated(tmp_path / "postgres") as postgres,
        on_cluster(tmp_path, postgres.dsn, DURABLE, collectors=2) as (rig, cluster),
    ):
        lost = cluster.primary_of(keys.stream(0))
        lost.kill()
        await cluster.fails_over(lost)
        await rig.kill(rig.collectors[0])
        await rig.sends(20)
        postgres.primary.kill()
        await rig.kill(rig.flushers[0])
        await rig.sends(20)
        await postgres.promote()
        await asyncio.to_thread(lost.start)
        await cluster.follows(lost)
        await rig.collectors[0].start().ready()
        await rig.flushers[0].start().ready()
        await rig.sends(60)
        assert rig.statuses() <= {*FINE, 503}
