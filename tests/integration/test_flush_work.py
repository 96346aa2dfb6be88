"""What a flush costs, counted: a regression here is a slower flusher, on any machine."""

from collections import Counter
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from asyncpg.connection import LoggedQuery
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from contract import keys
from contract.entry import join_records
from contract.flusher_metrics import FlusherMetrics
from contract.record import FIELD, encode
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from flusher.stream.read import StreamReader
from flusher.worker import Worker
from flusher.worker_settings import WorkerSettings
from runtime.shards import OneServer
from tests.events import batch_of, start, upgrade
from tests.instant import MONTH, NOON_US

UTC = ZoneInfo("UTC")
SHARDS = 4


@pytest.fixture
async def worker(shards: OneServer, redis: Redis, database: Database) -> Worker:
    worker = Worker(
        StreamReader(shards, "one", 60),
        SessionWriter(database, UTC),
        FlusherMetrics(CollectorRegistry()),
        WorkerSettings(UTC, max_rows=100_000, max_seconds=0.1, claim_seconds=60),
    )
    await worker.prepare()
    await append(redis, 1)
    await worker.run_once()  # the month's partition, the first claim
    return worker


async def append(redis: Redis, sessions: int, together: int = 1) -> None:
    """Sessions, of which each tenth is upgraded, over all shards."""
    starts = [start() for _ in range(sessions)]
    records = [encode(each) for each in starts]
    records += [encode(upgrade(each.id)) for each in starts[::10]]
    pipeline = redis.pipeline(transaction=False)
    for place, first in enumerate(range(0, len(records), together)):
        content = join_records(records[first : first + together])
        pipeline.xadd(keys.stream(place % SHARDS), {FIELD: content})
    await pipeline.execute()


async def commands_so_far(redis: Redis) -> Counter[str]:
    stats: dict[str, Any] = await redis.info("commandstats")
    return Counter({name: int(each["calls"]) for name, each in stats.items()})


async def test_a_flush_asks_redis_as_often_for_a_thousand_sessions_as_for_ten(
    redis: Redis, worker: Worker
) -> None:
    asked = {}
    for sessions in (10, 1000):
        await append(redis, sessions)
        before = await commands_so_far(redis)
        await worker.run_once()
        asked[sessions] = await commands_so_far(redis) - before
        del asked[sessions]["cmdstat_info"]
    assert asked[1000] == asked[10]
    # What a shard is asked: to read, and to end what was read in one step.
    each = ("xreadgroup", "eval", "xack", "xdel", "xlen", "del")
    assert asked[10] == Counter({f"cmdstat_{name}": SHARDS for name in each})


async def test_a_flush_asks_postgres_as_often_for_a_thousand_sessions_as_for_ten(
    redis: Redis, worker: Worker, database: Database
) -> None:
    queries: list[str] = []

    def note(query: LoggedQuery) -> None:
        queries.append(query.query)

    asked = {}
    async with database.connection() as connection:
        connection.add_query_logger(note)
    for sessions in (10, 1000):
        await append(redis, sessions)
        queries.clear()
        await worker.run_once()
        asked[sessions] = len(queries)
    assert asked[1000] == asked[10]
    # Begin, lock, (COPY, which is not told of,) lock, what waits, the upgrades, the counts, commit.
    assert asked[10] == 7, queries


async def test_sessions_that_share_an_entry_end_as_one(redis: Redis, worker: Worker) -> None:
    await append(redis, 640, together=32)
    before = await redis.info("commandstats")
    await worker.run_once()
    after = await redis.info("commandstats")
    assert after["cmdstat_xdel"]["calls"] - before["cmdstat_xdel"]["calls"] <= SHARDS
    assert sum([await redis.xlen(keys.stream(shard)) for shard in range(SHARDS)]) == 0


async def test_a_session_near_its_months_end_is_looked_up_once(database: Database) -> None:
    """Its copy can only be in the month beside it (docs/decisions/0003)."""
    writer = SessionWriter(database, UTC)
    await writer.create_months([MONTH, MONTH.plus(1)])
    end = (MONTH.ends_us(UTC) - NOON_US) / 1e6
    next_month = MONTH.plus(1)
    batches = (
        [start(seconds=end - 60) for _ in range(100)],
        [start(seconds=end + 60, month=next_month) for _ in range(100)],
    )
    for sessions in batches:
        before = await look_ups_by_id(database)
        await writer.write(batch_of(*sessions))
        assert await look_ups_by_id(database) - before <= len(sessions)


async def look_ups_by_id(database: Database) -> int:
    async with database.connection() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        await connection.execute("SELECT pg_stat_clear_snapshot()")
        scans = "SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE indexrelname LIKE '%_pkey'"
        return int(await connection.fetchval(f"{scans} AND relname LIKE 'sessions_%'"))
