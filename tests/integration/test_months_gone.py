"""A month whose partition is gone, by hand or since it was restored without it."""

from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from redis.asyncio import Redis

from contract import keys
from contract.calendar import DAY_US, Month
from contract.errors import Retry
from contract.record import FIELD, SessionStarted, encode
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from tests.events import SITE, batch_of, start, upgrade
from tests.instant import MONTH
from tests.integration.keeping import keeper_of
from tests.live_counts import views_and_live_counts_that_differ
from tests.system import System, eventually

UTC = ZoneInfo("UTC")
PARTITION = f"flusher.sessions_{MONTH.first_day:%Y_%m}"
A_ROW_OF_ANOTHER_MONTH = (
    "(gen_random_uuid(), '2001-01-01', 'x', gen_random_uuid(), NULL, now(), NULL)"
)
GONE = [f"DROP TABLE {PARTITION}", f"ALTER TABLE sessions DETACH PARTITION {PARTITION}"]


def started_in(month: Month) -> Any:
    """A stream's entry: a session on the month's tenth day."""
    at_us = month.starts_us(UTC) + 9 * DAY_US
    return {FIELD: encode(SessionStarted(uuid4().bytes, month, at_us, SITE, b"v" * 16, None))}


@pytest.mark.parametrize("gone", GONE, ids=["dropped", "detached"])
@pytest.mark.parametrize("counted", ["not counted", "counted"])
async def test_it_is_made_again_and_the_counts_are_those_of_what_is_there(
    database: Database, connection: asyncpg.Connection, gone: str, counted: str
) -> None:
    await SessionWriter(database, UTC).write(batch_of(start(), start(role="user")))
    if counted == "counted":
        await keeper_of(database).fold()
    await connection.execute(gone)
    written = await SessionWriter(database, UTC).write(batch_of(start()))
    assert written.sessions == 1
    left = 1 if "DROP" in gone else 3
    assert await connection.fetchval("SELECT count(*) FROM sessions") == left
    assert await views_and_live_counts_that_differ(connection) == []
    assert await check_counts(database) == []


@pytest.mark.parametrize("gone", GONE, ids=["dropped", "detached"])
async def test_a_writer_that_knew_it_waits_and_goes_on(
    database: Database, connection: asyncpg.Connection, gone: str
) -> None:
    """Nothing that comes meanwhile is set aside."""
    writer = SessionWriter(database, UTC)
    await writer.write(batch_of(start()))
    await connection.execute(gone)
    session = start()
    with pytest.raises(Retry, match="made again"):
        await writer.write(batch_of(session))
    assert (await writer.write(batch_of(session))).sessions == 1


async def test_a_writer_that_looks_for_a_visitor_in_it_goes_on(
    database: Database, connection: asyncpg.Connection
) -> None:
    writer = SessionWriter(database, UTC)
    await writer.write(batch_of(start()))
    await connection.execute(GONE[0])
    batch = batch_of(start(visitor=b"v" * 16), upgrade(None, visitor=b"v" * 16))
    with pytest.raises(Retry, match="made again"):
        await writer.write(batch)
    assert (await writer.write(batch)).upgrades == 1


@pytest.mark.parametrize(
    "in_the_way",
    [
        [f"CREATE TABLE {PARTITION} (another integer)"],
        [
            f"SELECT flusher.create_month('{MONTH.first_day}')",
            GONE[1],
            f"INSERT INTO {PARTITION} VALUES {A_ROW_OF_ANOTHER_MONTH}",
        ],
    ],
    ids=["another table", "rows of another month"],
)
async def test_what_else_stands_in_a_months_way_is_no_sessions_fault(
    database: Database, connection: asyncpg.Connection, in_the_way: list[str]
) -> None:
    for command in in_the_way:
        await connection.execute(command)
    with pytest.raises(Retry, match=rf"sessions_|{MONTH}"):
        await SessionWriter(database, UTC).write(batch_of(start()))


async def test_a_flusher_goes_on_while_it_is_gone_and_when_it_starts(
    system: System, connection: asyncpg.Connection, redis: Redis, this_month: Month
) -> None:
    partition = f"flusher.sessions_{this_month.first_day:%Y_%m}"

    async def stored() -> int:
        return int(await connection.fetchval("SELECT count(*) FROM sessions"))

    async def is_made() -> bool:
        return bool(await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", partition))

    for _ in range(2):
        (flusher,) = await system.start("flusher")
        await eventually(is_made)
        await connection.execute(f"DROP TABLE {partition}")
        await redis.xadd(keys.stream(0), started_in(this_month))
        await eventually(stored, lambda number: number == 1)
        await connection.execute(f"DROP TABLE {partition}")
        assert await flusher.stop() == 0
    assert await redis.xlen(keys.dead_letters(0)) == 0


async def test_a_flusher_whose_present_month_was_dropped_says_so_and_flushes_the_others(
    system: System, connection: asyncpg.Connection, redis: Redis, this_month: Month
) -> None:
    """As by one whose clock ran years ahead."""
    await connection.execute("SELECT flusher.create_month($1)", this_month.first_day)
    await connection.execute("UPDATE flusher.months SET closed_at = now(), dropped_at = now()")
    await connection.execute(f"DROP TABLE flusher.sessions_{this_month.first_day:%Y_%m}")
    (flusher,) = await system.start("flusher")
    await redis.xadd(keys.stream(0), started_in(this_month))
    await redis.xadd(keys.stream(0), started_in(this_month.plus(-1)))

    async def set_aside_and_stored() -> tuple[int, int]:
        stored = await connection.fetchval("SELECT count(*) FROM sessions")
        return await redis.xlen(keys.dead_letters(0)), int(stored)

    await eventually(set_aside_and_stored, lambda numbers: numbers == (1, 1))
    assert f"the sessions of {this_month} were dropped" in flusher.log
    assert await flusher.stop() == 0
