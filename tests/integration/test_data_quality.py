"""The view `data_quality`: it says which months may be compared, and what keeps others from it."""

from datetime import timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from contract.calendar import Month
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from flusher.stream.dead_letters import UNKNOWN_SITE
from tests.counted import count, last_day
from tests.events import SITE, batch_of, upgrade
from tests.instant import MONTH
from tests.integration.keeping import keeper_of

FIRST, BEFORE = MONTH.plus(-3), MONTH.plus(-1)
UTC = ZoneInfo("UTC")


async def quality(connection: asyncpg.Connection, site: str = SITE) -> dict[Month, asyncpg.Record]:
    rows = await connection.fetch("SELECT * FROM data_quality WHERE site = $1", site)
    return {Month(row["month"].year, row["month"].month): row for row in rows}


async def comparable(connection: asyncpg.Connection) -> list[bool]:
    """Of the three months before this one."""
    found = await quality(connection)
    return [found[FIRST.plus(number)]["comparable"] for number in range(3)]


async def test_whole_months_may_be_compared_and_the_current_one_may_not(
    connection: asyncpg.Connection,
) -> None:
    await count(connection, FIRST.first_day, MONTH.first_day)
    found = await quality(connection)
    assert {month: row["comparable"] for month, row in found.items()} == {
        FIRST: True,
        FIRST.plus(1): True,
        BEFORE: True,
        MONTH: False,
    }
    assert found[BEFORE]["days_without_sessions"] == 0
    assert found[BEFORE]["timezone"] == "UTC"


async def test_a_site_that_begins_within_a_month_says_so(connection: asyncpg.Connection) -> None:
    began = FIRST.first_day + timedelta(days=12)
    await count(connection, began, MONTH.first_day)
    found = await quality(connection)
    assert [found[month]["began_on"] for month in (FIRST, BEFORE)] == [began, None]
    assert await comparable(connection) == [False, True, True]
    assert found[FIRST]["days_without_sessions"] == 0, "of those before it there is nothing to say"


async def test_a_site_that_ends_within_a_month_says_so(connection: asyncpg.Connection) -> None:
    ended = BEFORE.plus(-1).first_day + timedelta(days=12)
    await count(connection, FIRST.first_day, ended)
    found = await quality(connection)
    assert sorted(found) == [FIRST, FIRST.plus(1)]
    assert [row["ended_on"] for _, row in sorted(found.items())] == [None, ended]
    assert [row["comparable"] for _, row in sorted(found.items())] == [True, False]
    assert found[FIRST.plus(1)]["days_without_sessions"] == 0


@pytest.mark.parametrize(("a_day", "expected"), [(20, False), (4, True)])
async def test_a_day_without_sessions_is_a_gap_where_days_have_many(
    connection: asyncpg.Connection, a_day: int, *, expected: bool
) -> None:
    gap = {FIRST.plus(1).first_day + timedelta(days=n) for n in (9, 10)}
    await count(connection, FIRST.first_day, MONTH.first_day, a_day=a_day, but=gap)
    assert (await quality(connection))[FIRST.plus(1)]["days_without_sessions"] == 2
    assert await comparable(connection) == [True, expected, True]


async def test_a_month_without_any_session_is_there(connection: asyncpg.Connection) -> None:
    """It is the largest gap of all, and no row would hide it."""
    missing = FIRST.plus(1)
    await count(connection, FIRST.first_day, last_day(FIRST))
    await count(connection, BEFORE.first_day, MONTH.first_day)
    found = await quality(connection)
    days = (missing.plus(1).first_day - missing.first_day).days
    assert found[missing]["days_without_sessions"] == days
    assert await comparable(connection) == [True, False, True]


async def test_a_replaced_salt_is_told_by_the_calendars_days(
    connection: asyncpg.Connection,
) -> None:
    """At 23:30 in UTC it is the next day in Kiritimati."""
    await connection.execute("UPDATE flusher.calendar SET timezone = 'Pacific/Kiritimati'")
    await count(connection, FIRST.first_day, MONTH.first_day)
    for outcome, half_hours in (("rotated", 1), ("lost", 200), ("replaced", 9 * 48 + 47)):
        await connection.execute(
            "INSERT INTO flusher.salts VALUES (gen_random_uuid(), $1, $2, "
            "$1::date::timestamp AT TIME ZONE 'UTC' + $3 * interval '30 minutes')",
            *(FIRST.plus(1).first_day, outcome, half_hours),
        )
    found = (await quality(connection))[FIRST.plus(1)]
    assert found["salts_replaced"] == 2
    assert found["salt_replaced_on"] == FIRST.plus(1).first_day + timedelta(days=10)
    assert await comparable(connection) == [True, False, True]


async def test_sign_ins_that_wait_or_were_given_up_are_their_own_sites(
    connection: asyncpg.Connection, database: Database
) -> None:
    await count(connection, FIRST.first_day, MONTH.first_day)
    await count(connection, FIRST.first_day, MONTH.first_day, site="b.example.org")
    await SessionWriter(database, UTC).write(batch_of(upgrade(b"x" * 16), upgrade(b"y" * 16)))
    await connection.execute(
        "INSERT INTO flusher.upgrades_given_up VALUES ($1, 'b.example.org', 3), "
        "($1, 'only.example.org', 4)",
        BEFORE.first_day,
    )
    ours, theirs = await quality(connection), await quality(connection, "b.example.org")
    assert (ours[MONTH]["sign_ins_waiting"], ours[BEFORE]["sign_ins_given_up"]) == (2, 0)
    assert (theirs[MONTH]["sign_ins_waiting"], theirs[BEFORE]["sign_ins_given_up"]) == (0, 3)
    assert theirs[BEFORE]["comparable"], "how many there are is said; a few don't move a month"
    only = (await quality(connection, "only.example.org"))[BEFORE]
    assert (only["sign_ins_given_up"], only["comparable"]) == (4, False)


async def test_dead_letters_are_written_down_for_who_can_not_ask_redis(
    connection: asyncpg.Connection, database: Database
) -> None:
    dead = {(BEFORE, SITE): 2, (BEFORE, UNKNOWN_SITE): 1, (BEFORE.plus(-1), SITE): 0}
    await count(connection, FIRST.first_day, MONTH.first_day)

    async def places() -> dict[tuple[Month, str], int]:
        return dead

    keeper = keeper_of(database, dead_places=places)
    for _ in range(2):
        await keeper.run_once()
        found = await quality(connection)
        assert (found[BEFORE]["dead_letters"], found[BEFORE.plus(-1)]["dead_letters"]) == (2, 0)
        assert (await quality(connection, UNKNOWN_SITE))[BEFORE]["dead_letters"] == 1
    dead.clear()
    await keeper.run_once()
    assert (await quality(connection))[BEFORE]["dead_letters"] == 0
    assert await quality(connection, UNKNOWN_SITE) == {}


async def test_a_month_says_whether_it_is_closed(
    connection: asyncpg.Connection,
) -> None:
    await count(connection, FIRST.first_day, MONTH.first_day)
    await connection.execute(
        "UPDATE flusher.months SET closed_at = now() WHERE month = $1", FIRST.first_day
    )
    found = await quality(connection)
    assert [found[month]["closed"] for month in (FIRST, BEFORE)] == [True, False]
