"""Under load several records share an entry. What is killed then neither loses nor doubles any."""

import asyncio
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from bench.speed.contender import Server, put_load
from contract import keys
from embedded.valkey import ValkeyServer
from runtime.redis_client import connect_redis
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres
from tests.system import System, eventually, run_command

LOAD_SECONDS = 4.0


async def joined(redis: Redis) -> int:
    """How many more records than entries wait."""
    return sum([int(await redis.get(keys.joined(shard)) or 0) for shard in range(8)])


async def buffered(redis: Redis) -> int:
    return sum([int(await redis.xlen(keys.stream(shard))) for shard in range(8)])


async def test_each_session_of_a_shared_entry_is_one_row_whatever_is_killed(tmp_path: Path) -> None:
    valkey = ValkeyServer(tmp_path / "valkey")
    postgres = CopiedPostgres(tmp_path / "postgres", settings=POSTGRES_SETTINGS)
    settings = {"LOG_LEVEL": "warning", "FLUSH_CLAIM_SECONDS": "2", "TRUSTED_PROXIES": "127.0.0.1"}
    with (
        valkey,
        postgres,
        System(valkey.url, postgres.dsn(), tmp_path / "logs", settings) as system,
    ):
        await run_command("flusher", "migrate", **system.environment)
        collector, *flushers = [
            system.program(module).start() for module in ("collector", "flusher", "flusher")
        ]
        await asyncio.gather(*(program.ready() for program in (collector, *flushers)))
        redis = connect_redis(valkey.url)
        for flusher in flushers:
            flusher.freeze()
        load = asyncio.create_task(put_load(Server(system.port, collector), LOAD_SECONDS, warm=0.1))
        for flusher in flushers:
            await eventually(lambda: joined(redis), lambda more: more > 500)
            flusher.thaw()
            flusher.kill()
            flusher.start()
        valkey.kill()
        await asyncio.to_thread(valkey.start)
        await redis.connection_pool.disconnect()
        turn = await load
        assert set(turn.statuses) == {"201"}
        await eventually(lambda: buffered(redis), lambda entries: entries == 0)
        assert await joined(redis) == 0
        database = await asyncpg.connect(postgres.dsn())
        assert await database.fetchval("SELECT count(*) FROM sessions") == turn.stored
        await database.close()
        metrics = await collector.metrics()
        assert metrics['impact_accepted_total{kind="session"}'] == turn.stored
        assert turn.stored > metrics["impact_append_batch_size_count"] * 8, "it was a load"
        await redis.aclose()
