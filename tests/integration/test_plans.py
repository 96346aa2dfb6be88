"""What is read to write a batch does not grow with the month, whatever the statistics say."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from contract.record import SessionStarted, SessionUpgraded
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from tests.events import batch_of, start, upgrade
from tests.instant import MONTH, NOON_US

UTC = ZoneInfo("UTC")
SESSIONS: Final = 20_000
EACH: Final = 50
_READ: Final = """
    SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'upgrades'
            OR relname LIKE 'sessions_%')
        + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname = 'upgrades'
            OR relname LIKE 'sessions_%')
"""


@asynccontextmanager
async def rolled_back(database: Database) -> AsyncIterator[asyncpg.Connection]:
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await transaction.rollback()


async def as_new(database: Database) -> None:
    """Nothing was ever counted in tables that were made a moment ago."""


async def analysed(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("ANALYZE")


async def analysed_while_empty(database: Database) -> None:
    """Somebody runs ANALYZE, and the months ahead are there already."""
    await analysed(database)


async def analysed_after_a_rollback(database: Database) -> None:
    """Autovacuum comes after a batch failed: pages, and not one row in them."""
    async with rolled_back(database) as connection:
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


async def rows_read(database: Database) -> int:
    async with database.connection() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        await connection.execute("SELECT pg_stat_clear_snapshot()")
        return int(await connection.fetchval(_READ))


@pytest.mark.parametrize("statistics", [as_new, analysed_while_empty, analysed_after_a_rollback])
async def test_no_batch_reads_a_whole_month(
    statistics: Callable[[Database], Awaitable[None]], database: Database
) -> None:
    """Not even once, though each plan was made when there was nothing to read."""
    writer = SessionWriter(database, UTC)
    await writer.create_months([MONTH, MONTH.plus(1)])
    await statistics(database)
    for events in traffic():
        await writer.write(batch_of(*events))
    await assert_little_is_read(database, writer)


async def test_no_batch_reads_a_whole_month_that_was_small_when_analysed(
    database: Database,
) -> None:
    """Autovacuum comes when a month has some hundred sessions, and next when it has thousands."""
    writer = SessionWriter(database, UTC)
    for events in traffic():
        await writer.write(batch_of(*events))
    await analysed(database)
    await assert_little_is_read(database, writer)


async def assert_little_is_read(database: Database, writer: SessionWriter) -> None:
    """By each kind of batch, once there are many sessions."""
    await writer.write(batch_of(*(start(visitor=visitor(1000 + n)) for n in range(SESSIONS))))
    before = await rows_read(database)
    for events in traffic():
        await writer.write(batch_of(*events))
        after = await rows_read(database)
        assert after - before < SESSIONS / 4, events[-1]
        before = after
