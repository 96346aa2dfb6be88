"""What a flush costs, counted: calls, and rows that are read, whatever the statistics say."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
from asyncpg.connection import LoggedQuery
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from contract import keys
from contract.entry import join_records
from contract.flusher_metrics import FlusherMetrics
from contract.record import FIELD, SessionStarted, SessionUpgraded, encode
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from flusher.stream.read import StreamReader
from flusher.worker import Worker
from flusher.worker_settings import WorkerSettings
from runtime.shards import OneServer
from tests.events import batch_of, start, upgrade
from tests.instant import MONTH, NOON_US, UTC

SHARDS = 4


@pytest.fixture
async def worker(shards: OneServer, redis: Redis, database: Database) -> Worker:
    worker = Worker(
        StreamReader(shards, "one", 60),
        SessionWriter(database, UTC),
        FlusherMetrics(CollectorRegistry()),
        WorkerSettings(UTC, max_rows=100_000, max_seconds=0.1, claim_seconds=60),
    )
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
    """Each in an entry of its own, or many in one."""
    # What a shard is asked: to read, and to end what was read in one step.
    each = ("xreadgroup", "eval", "xack", "xdel", "xlen", "del")
    for sessions, together in ((10, 1), (1000, 1), (640, 32)):
        await append(redis, sessions, together)
        before = await commands_so_far(redis)
        await worker.run_once()
        asked = await commands_so_far(redis) - before
        del asked["cmdstat_info"]
        names = each if together == 1 else (*each, "decrby")
        assert asked == Counter({f"cmdstat_{name}": SHARDS for name in names})
    assert sum([await redis.xlen(keys.stream(shard)) for shard in range(SHARDS)]) == 0


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
    # Begin, lock, (COPY, which is not logged,) lock, the counts, what waits, the upgrades, their
    # counts, commit.
    assert asked[10] == 8, queries


LOOK_UPS_BY_ID: Final = """
    SELECT sum(idx_scan) FROM pg_stat_user_indexes
    WHERE indexrelname LIKE '%_pkey' AND relname LIKE 'sessions_%'
"""


async def test_a_session_near_its_months_end_is_looked_up_once(
    database: Database, writer: SessionWriter
) -> None:
    """Its copy can only be in the month beside it (docs/decisions/0003)."""
    await writer.create_months([MONTH, MONTH.plus(1)])
    end = (MONTH.ends_us(UTC) - NOON_US) / 1e6
    next_month = MONTH.plus(1)
    batches = (
        [start(seconds=end - 60) for _ in range(100)],
        [start(seconds=end + 60, month=next_month) for _ in range(100)],
    )
    for sessions in batches:
        before = await counted_by_postgres(database, LOOK_UPS_BY_ID)
        await writer.write(batch_of(*sessions))
        assert await counted_by_postgres(database, LOOK_UPS_BY_ID) - before <= len(sessions)


async def counted_by_postgres(database: Database, query: str) -> int:
    """What its statistics say now."""
    async with database.connection() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        await connection.execute("SELECT pg_stat_clear_snapshot()")
        return int(await connection.fetchval(query))


SESSIONS: Final = 20_000
EACH: Final = 50
_READ: Final = """
    SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'upgrades'
            OR relname LIKE 'sessions_%')
        + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname = 'upgrades'
            OR relname LIKE 'sessions_%')
"""


async def as_new(_: Database) -> None:
    """Nothing was ever counted in tables that were made a moment ago."""


async def analysed(database: Database) -> None:
    """An operator runs ANALYZE when the partitions of the next months exist already."""
    async with database.connection() as connection:
        await connection.execute("ANALYZE")


async def analysed_after_a_rollback(database: Database) -> None:
    """Autovacuum comes after a batch failed: pages, and not one row in them."""
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "INSERT INTO sessions (id, month, site, monthly_user_hash, created_at) "
            "SELECT gen_random_uuid(), $1, 'a', gen_random_uuid(), now() "
            "FROM generate_series(1, 5000)",
            MONTH.first_day,
        )
        await connection.execute(
            "INSERT INTO flusher.upgrades "
            "(id, session_id, month, site, user_hash, highest_role, upgraded_at) "
            "SELECT gen_random_uuid(), gen_random_uuid(), $1, 'a', gen_random_uuid(), 'user', "
            "now() FROM generate_series(1, 5000)",
            MONTH.first_day,
        )
        await transaction.rollback()
    await analysed(database)


async def analysed_while_small(database: Database) -> None:
    """Autovacuum comes when a month has some hundred sessions, and next when it has thousands."""
    for events in traffic():
        await SessionWriter(database, UTC).write(batch_of(*events))
    await analysed(database)


def visitor(number: int) -> bytes:
    return b"v" + number.to_bytes(15)


def traffic() -> list[list[SessionStarted | SessionUpgraded]]:
    """A batch for each way in which upgrades and copies find their sessions."""
    numbers = range(EACH)
    started = [start(visitor=visitor(n), seconds=n) for n in numbers]
    late = [start(seconds=n) for n in numbers]
    again = [
        start(session.id, visitor=visitor(n), seconds=n - 5) for n, session in enumerate(started)
    ]
    end = (MONTH.ends_us(UTC) - NOON_US) / 1e6
    before_end = [start(seconds=end - 1) for _ in numbers]
    after_end = [start(e.id, seconds=end + 1, month=MONTH.plus(1)) for e in before_end]
    current = [start(visitor=visitor(EACH + n), seconds=n) for n in numbers]
    return [
        [*started, *(upgrade(session.id) for session in started)],
        [upgrade(session.id) for session in late],
        [*late],
        [*again, *(upgrade(session.id, seconds=70) for session in again)],
        [*before_end],
        [*after_end],
        [*current, *(upgrade(None, visitor=session.monthly_user_hash) for session in current)],
        [upgrade(session.id, seconds=65) for session in current],
    ]


@pytest.mark.parametrize(
    "statistics", [as_new, analysed, analysed_after_a_rollback, analysed_while_small]
)
async def test_no_batch_reads_a_whole_month(
    statistics: Callable[[Database], Awaitable[None]], database: Database
) -> None:
    """Not even once, though each plan was made when there was little or nothing to read."""
    writer = SessionWriter(database, UTC)
    await writer.create_months([MONTH, MONTH.plus(1)])
    await statistics(database)
    for events in traffic():
        await writer.write(batch_of(*events))
    await writer.write(batch_of(*(start(visitor=visitor(1000 + n)) for n in range(SESSIONS))))
    before = await counted_by_postgres(database, _READ)
    for events in traffic():
        await writer.write(batch_of(*events))
        after = await counted_by_postgres(database, _READ)
        assert after - before < SESSIONS / 4, events[-1]
        before = after
