"""Kept counts: exact whatever happens meanwhile, and years of sessions are not read again."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import date, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from contract.calendar import DAY_US, Month, from_us
from contract.errors import DeadLetter, Retry
from contract.record import SessionStarted
from flusher.counting import CLOSED_AFTER_US, Done, MonthCounter
from flusher.database import Database, connect
from flusher.migrate import migrate, migrations
from flusher.write import SessionWriter
from tests.conftest import Databases
from tests.events import batch_of, start, upgrade
from tests.instant import MONTH, NOON_US
from tests.live_counts import views_and_live_counts_that_differ
from tests.servers import Flavour, flavours, run_servers

UTC = ZoneInfo("UTC")
BEFORE = MONTH.plus(-1)
# In the middle of MONTH: the one before it is finished.
NOW_US = NOON_US
TABLE, TABLE_BEFORE = (f"sessions_{month.first_day:%Y_%m}" for month in (MONTH, BEFORE))


def day(number: int, month: Month = MONTH) -> str:
    """A day of a month, as SQL."""
    return f"'{month}-{number:02}'"


@pytest.fixture(scope="module", params=flavours(), ids=lambda flavour: flavour.name)
def databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Databases]:
    """On every PostgreSQL that there is."""
    flavour: Flavour = request.param
    with run_servers(flavour, tmp_path_factory.mktemp("counting")) as servers:
        yield Databases(servers)


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
def writer(database: Database) -> SessionWriter:
    return SessionWriter(database, UTC)


@pytest.fixture
async def counter(dsn: str) -> AsyncIterator[MonthCounter]:
    async with Database(dsn) as database:
        yield MonthCounter(database, UTC, kept_months=0)


def of(month: Month, person: int, site: str = "a.example.org") -> SessionStarted:
    """A session in the middle of a month."""
    middle = (month.starts_us(UTC) + 9 * DAY_US - NOON_US) / 1e6
    return start(visitor=bytes([person]) * 16, site=site, month=month, seconds=middle + person)


async def assert_exact(connection: asyncpg.Connection) -> None:
    assert await views_and_live_counts_that_differ(connection) == []


async def scanned(connection: asyncpg.Connection, query: str) -> set[str]:
    """The partitions that a query reads."""
    plan = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {query}")
    read = [row[0] for row in plan if "never executed" not in row[0]]
    return {word for line in read for word in line.split() if word.startswith("sessions_2")}


async def test_no_report_reads_a_finished_month_or_what_is_below_the_line(
    connection: asyncpg.Connection, writer: SessionWriter, counter: MonthCounter
) -> None:
    months = [MONTH.plus(-number) for number in range(6)]
    await writer.write(
        batch_of(*(of(month, person) for month in months for person in range(1, 30)))
    )
    # Enough that reading all of the current month is not the quickest.
    await connection.execute(
        "INSERT INTO sessions SELECT gen_random_uuid(), month, site, gen_random_uuid(), NULL, "
        "created_at - number * interval '1 minute' "
        f"FROM sessions, generate_series(1, 500) number WHERE month = {day(1)}"
    )
    await connection.execute("ANALYZE")
    overview = "SELECT * FROM monthly_impact"
    one_site = "SELECT * FROM monthly_impact WHERE site = 'a.example.org'"
    daily = f"SELECT * FROM daily_impact WHERE day >= {day(1, MONTH.plus(-5))}"
    assert len(await scanned(connection, overview)) >= 6

    done = await counter.run_once(NOW_US)
    assert done == Done(closed=tuple(m.first_day for m in months[:0:-1]), moved=(MONTH.first_day,))
    for query in (overview, one_site, daily):
        assert await scanned(connection, query) <= {
            TABLE,
            f"{TABLE}_created_at",
        }
    plan = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {one_site}")
    (read,) = [row[0] for row in plan if f"{TABLE} " in row[0] and "never executed" not in row[0]]
    assert "created_at" in read, "only what is above the line is read"
    plan = await connection.fetch(f"EXPLAIN (COSTS OFF) {overview}")
    grouping = next(n for n, row in enumerate(plan) if "xid" in row[0])
    assert "HashAggregate" in plan[grouping - 1][0], "what is above the line is not sorted"
    await assert_exact(connection)

    # What changes in one finished month has that month read, and no other, until it is counted.
    await writer.write(batch_of(of(BEFORE, 99)))
    assert {name[:16] for name in await scanned(connection, overview)} == {
        TABLE_BEFORE,
        TABLE,
    }
    await assert_exact(connection)
    assert (await counter.run_once(NOW_US, at_once=True)).closed == (BEFORE.first_day,)
    assert TABLE_BEFORE not in await scanned(connection, overview)
    await assert_exact(connection)


async def test_a_late_upgrade_of_a_closed_month_counts_at_once(
    connection: asyncpg.Connection, writer: SessionWriter, counter: MonthCounter
) -> None:
    session = of(BEFORE, 1)
    await writer.write(batch_of(session, of(BEFORE, 2), of(BEFORE, 2, "b.example.org")))
    await counter.run_once(NOW_US)
    await writer.write(batch_of(upgrade(session.id, site="a.example.org")))
    row = await connection.fetchrow("SELECT * FROM monthly_impact WHERE site = 'a.example.org'")
    assert row is not None
    assert (row["signed_in_sessions"], row["unique_users"], row["unique_visitors"]) == (1, 2, 1)
    await assert_exact(connection)


@pytest.mark.parametrize("function", ["count_month", "close_month"])
async def test_what_is_committed_while_a_month_is_counted_is_in_the_views(
    connection: asyncpg.Connection, writer: SessionWriter, dsn: str, function: str
) -> None:
    """After the snapshot of whoever counts, and before its commit."""
    first = of(BEFORE, 1)
    await writer.write(batch_of(first, of(BEFORE, 2)))
    line = "'infinity'" if function == "close_month" else day(28, BEFORE)
    await connection.execute(f"SELECT flusher.watch_month({day(1, BEFORE)}, {line})")
    counting = await asyncpg.connect(dsn)
    async with counting.transaction(isolation="repeatable_read"):
        await counting.execute("SELECT 1 FROM sessions LIMIT 1")
        await writer.write(batch_of(of(BEFORE, 3), of(BEFORE, 1, "b.example.org")))
        await connection.execute("DELETE FROM sessions WHERE id = $1", first.id.hex())
        await assert_exact(connection)
        await counting.execute(f"SELECT flusher.{function}({day(1, BEFORE)})")
        await assert_exact(connection)
    await assert_exact(connection)
    assert await connection.fetchval("SELECT count(*) FROM flusher.monthly_counts") == 1
    await counting.close()


async def test_a_change_between_the_old_line_and_the_new_counts_once(
    connection: asyncpg.Connection, writer: SessionWriter, counter: MonthCounter
) -> None:
    """It is noted since the month is watched further, and above the line until it is counted."""
    await writer.write(batch_of(of(MONTH, 1), of(MONTH, 2)))
    await counter.run_once(NOW_US)
    await writer.write(batch_of(of(MONTH, 20), of(MONTH, 21), of(MONTH, 1)))
    await connection.execute(f"SELECT flusher.watch_month({day(1)}, {day(25)})")
    await connection.execute("UPDATE sessions SET highest_role = 'user'")
    assert await connection.fetchval("SELECT count(*) FROM flusher.changes") > 0
    await assert_exact(connection)
    for _ in range(2):
        async with connection.transaction(isolation="repeatable_read"):
            await connection.execute(f"SELECT flusher.count_month({day(1)})")
        await assert_exact(connection)
    assert await connection.fetchval("SELECT count(*) FROM flusher.changes") == 0
    await connection.execute(f"SELECT flusher.watch_month({day(1)}, {day(28)})")
    async with connection.transaction(isolation="repeatable_read"):
        await connection.execute(f"SELECT flusher.count_month({day(1)})")
    await assert_exact(connection)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_views_are_exact_wherever_the_line_is(
    connection: asyncpg.Connection, dsn: str, seed: int
) -> None:
    """Sessions come, change and go above and below it, also while it moves."""
    chance = random.Random(seed)  # noqa: S311 - a test's dice
    counting = await asyncpg.connect(dsn)
    await connection.execute(f"SELECT flusher.create_month({day(1)})")

    async def change() -> None:
        person = UUID(int=chance.randrange(4))
        match chance.randrange(4):
            case 0:  # an upgrade, mostly to another hash
                await connection.execute(
                    "UPDATE sessions SET highest_role = 'user', monthly_user_hash = $1 WHERE id = "
                    "(SELECT id FROM sessions WHERE highest_role IS NULL ORDER BY id LIMIT 1)",
                    person,
                )
            case 1:
                await connection.execute(
                    "DELETE FROM sessions WHERE id = (SELECT id FROM sessions ORDER BY id LIMIT 1)"
                )
            case _:
                await connection.execute(
                    f"INSERT INTO sessions VALUES (gen_random_uuid(), {day(1)}, $1, $2, $3, "
                    f"{day(1)}::timestamptz + $4 * interval '1 hour')",
                    chance.choice(("a.example.org", "b.example.org")),
                    person,
                    chance.choice((None, None, "user")),
                    float(chance.randrange(200)),
                )

    for _ in range(30):
        for _ in range(chance.randrange(6)):
            await change()
            await assert_exact(connection)
        if chance.random() < 0.6:
            await connection.execute(
                f"SELECT flusher.watch_month({day(1)}, greatest(watched_until, "
                f"{day(1)}::timestamptz + $1 * interval '1 hour')) FROM flusher.counted_months",
                float(chance.randrange(200)),
            )
        async with counting.transaction(isolation="repeatable_read"):
            await counting.execute("SELECT 1 FROM sessions LIMIT 1")
            for _ in range(chance.randrange(3)):
                await change()
            await counting.execute(f"SELECT flusher.count_month({day(1)})")
        await assert_exact(connection)
    await counting.close()


async def test_counting_without_one_snapshot_is_refused(connection: asyncpg.Connection) -> None:
    for function in ("count_month", "close_month"):
        with pytest.raises(asyncpg.RaiseError, match="REPEATABLE READ"):
            await connection.execute(f"SELECT flusher.{function}({day(1, BEFORE)})")


async def test_a_month_is_not_counted_while_somebody_is_writing_to_it(
    connection: asyncpg.Connection, writer: SessionWriter, counter: MonthCounter, dsn: str
) -> None:
    """What is not committed yet would be in no count and noted nowhere."""
    await writer.write(batch_of(of(BEFORE, 1)))
    writing = await asyncpg.connect(dsn)
    transaction = writing.transaction()
    await transaction.start()
    await writing.execute(
        "INSERT INTO sessions SELECT gen_random_uuid(), month, site, "
        "monthly_user_hash, 'user', created_at FROM sessions"
    )
    with pytest.raises(Retry, match="LockNotAvailable"):
        await counter.run_once(NOW_US)
    await transaction.commit()
    await writing.close()
    assert (await counter.run_once(NOW_US)).closed == (BEFORE.first_day,)
    await assert_exact(connection)


async def test_the_counts_are_exact_under_fire(
    connection: asyncpg.Connection, counter: MonthCounter, dsn: str
) -> None:
    """Two flushers write sessions and upgrades of two months; a third counts all the while."""
    stop = asyncio.Event()

    async def write(number: int) -> None:
        async with Database(dsn) as own:
            writer = SessionWriter(own, UTC)
            while not stop.is_set():
                starts = [of((MONTH, BEFORE)[p % 2], p + number) for p in range(20)]
                upgrades = [upgrade(each.id, site="a.example.org") for each in starts[::3]]
                for each in (batch_of(*starts, *upgrades[:2]), batch_of(*upgrades)):
                    with suppress(Retry):
                        await writer.write(each)

    writing = [asyncio.create_task(write(number)) for number in (0, 3)]
    counted = 0
    while counted < 3:
        with suppress(Retry):
            done = await counter.run_once(NOW_US, at_once=True)
            counted += bool(done.closed or done.moved)
        await assert_exact(connection)
    stop.set()
    await asyncio.gather(*writing)
    await assert_exact(connection)


async def test_emptying_the_table_empties_the_views(
    connection: asyncpg.Connection, writer: SessionWriter, counter: MonthCounter
) -> None:
    await writer.write(batch_of(of(BEFORE, 1), of(MONTH, 1)))
    await counter.run_once(NOW_US)
    await connection.execute("TRUNCATE sessions")
    assert await connection.fetch("SELECT * FROM monthly_impact") == []
    assert await connection.fetch("SELECT * FROM daily_impact") == []
    await writer.write(batch_of(of(BEFORE, 5), of(MONTH, 6)))
    await assert_exact(connection)


async def test_with_another_calendar_the_days_are_counted_anew(
    connection: asyncpg.Connection, writer: SessionWriter, counter: MonthCounter
) -> None:
    await writer.write(batch_of(of(BEFORE, 1), of(MONTH, 1)))
    await counter.run_once(NOW_US)
    days = [row["day"] for row in await connection.fetch("SELECT day FROM daily_impact ORDER BY 1")]
    await migrate(connection, ZoneInfo("Pacific/Kiritimati"))
    await connection.execute("UPDATE sessions SET created_at = created_at + interval '11 hours'")
    await assert_exact(connection)
    await counter.run_once(NOW_US, at_once=True)
    await assert_exact(connection)
    after = await connection.fetch("SELECT day FROM daily_impact ORDER BY 1")
    assert [(row["day"] - day).days for row, day in zip(after, days, strict=True)] == [1, 1]


async def test_no_view_is_compiled(databases: Databases) -> None:
    """Compiling (jit) takes a second: it is off, and in a new database not worth its cost."""
    dsn = await databases.create_empty("compiled")
    owner = await asyncpg.connect(dsn)
    await migrate(owner, UTC)
    await owner.execute(f"SELECT flusher.create_month({day(1)})")
    await owner.close()
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SHOW jit") == "off"
    worth_it = float(await connection.fetchval("SHOW jit_above_cost"))
    for view in ("monthly_impact", "daily_impact"):
        plan = await connection.fetchval(f"EXPLAIN (FORMAT json) SELECT * FROM {view}")
        assert json.loads(plan)[0]["Plan"]["Total Cost"] < worth_it, view
    await connection.close()


async def test_sessions_of_before_the_counts_are_in_the_views(databases: Databases) -> None:
    """A database that an earlier version made and filled."""
    dsn = await databases.create_empty("earlier")
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "CREATE TABLE impact_migrations (name text PRIMARY KEY, "
        "applied_at timestamptz NOT NULL DEFAULT now())"
    )
    for migration in migrations()[:3]:
        await connection.execute(migration.sql)
        await connection.execute("INSERT INTO impact_migrations VALUES ($1)", migration.name)
    async with Database(dsn) as database:
        writer = SessionWriter(database, UTC)
        await writer.write(batch_of(of(BEFORE, 1), of(MONTH, 1), of(MONTH, 2)))
        assert (await migrate(connection, UTC))[0] == "0004_kept_counts"
        await assert_exact(connection)
        await writer.write(batch_of(of(BEFORE, 3), of(MONTH, 3)))
        done = await MonthCounter(database, UTC).run_once(NOW_US)
        assert (done.closed, done.moved) == ((BEFORE.first_day,), (MONTH.first_day,))
    assert await connection.fetchval("SELECT sum(sessions) FROM monthly_impact") == 5
    await assert_exact(connection)
    await connection.close()


@pytest.mark.parametrize("version", ["0009_lighter_counts", "0014_one_line"])
async def test_counts_that_an_earlier_version_kept_go_on(
    databases: Databases, version: str
) -> None:
    """A database that was counted by the version before, with changes below the line."""
    dsn = await databases.create_empty(f"before_{version}")
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "CREATE TABLE impact_migrations (name text PRIMARY KEY, "
        "applied_at timestamptz NOT NULL DEFAULT now())"
    )
    for migration in migrations():
        if migration.name == version:
            break
        await connection.execute(migration.sql)
        await connection.execute("INSERT INTO impact_migrations VALUES ($1)", migration.name)
    async with Database(dsn) as database:
        writer = SessionWriter(database, UTC)
        sessions = [of(MONTH, 1), of(MONTH, 1), of(MONTH, 2), of(MONTH, 3)]
        late = [of(MONTH, 1), of(MONTH, 4)]
        gone = "DELETE FROM sessions WHERE id = $1"
        # With two lines, the second stays behind.
        for events, line in ((sessions, day(20)), (late, day(21))):
            await writer.write(batch_of(*events))
            await connection.execute(f"SELECT flusher.watch_month({day(1)}, {line})")
            async with connection.transaction(isolation="repeatable_read"):
                await connection.execute(f"SELECT flusher.count_month({day(1)})")
        await connection.execute(gone, sessions[0].id.hex())
        await connection.execute(gone, sessions[2].id.hex())
        await migrate(connection, UTC)
        await assert_exact(connection)
        for each in (sessions[1], late[0]):
            await connection.execute(gone, each.id.hex())
            await assert_exact(connection)
        await MonthCounter(database, UTC).run_once(NOW_US, at_once=True)
        await assert_exact(connection)
        for each in (sessions[3], late[1]):
            await connection.execute(gone, each.id.hex())
            await assert_exact(connection)
    assert await connection.fetch("SELECT * FROM monthly_impact") == []
    await connection.close()


async def test_who_came_is_looked_up_as_fast_however_many_came(
    dsn: str,
) -> None:
    """The index of people grows with them. It does not while a look-up holds one of its pages."""
    connection = await connect(dsn)
    await connection.execute(f"SELECT flusher.create_month({day(1)})")
    for number in range(1, 5):
        await connection.execute(
            "INSERT INTO sessions (id, month, site, monthly_user_hash, created_at) "
            f"SELECT gen_random_uuid(), {day(1)}, 'a', gen_random_uuid(), $1 "
            "FROM generate_series(1, 5000)",
            from_us(NOON_US) + timedelta(days=number),
        )
        await connection.execute(
            f"SELECT flusher.watch_month({day(1)}, $1)",
            from_us(NOON_US) + timedelta(days=number, hours=1),
        )
        async with connection.transaction(isolation="repeatable_read"):
            await connection.execute(f"SELECT flusher.count_month({day(1)})")
    plan = await connection.fetchval(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT json) "
        "SELECT FROM flusher.people "
        "WHERE monthly_user_hash = '00000000-0000-0000-0000-000000000000'"
    )
    look_up = json.loads(plan)[0]["Plan"]
    assert look_up["Index Name"] == "people_by_hash"
    pages = look_up["Shared Hit Blocks"] + look_up["Shared Read Blocks"]
    assert pages < 10
    await assert_exact(connection)
    await connection.close()


async def test_of_dropped_months_the_counts_stay(
    connection: asyncpg.Connection, writer: SessionWriter, dsn: str
) -> None:
    months = [MONTH.plus(-number) for number in range(5, -1, -1)]
    await writer.write(batch_of(*(of(month, person) for month in months for person in range(1, 5))))
    before = await connection.fetch("SELECT * FROM monthly_impact ORDER BY month")
    days = await connection.fetch("SELECT * FROM daily_impact ORDER BY day")
    async with Database(dsn) as database:
        done = await MonthCounter(database, UTC, kept_months=2).run_once(NOW_US)
    assert done.dropped == tuple(month.first_day for month in months[:3])
    assert await connection.fetch("SELECT * FROM monthly_impact ORDER BY month") == before
    assert await connection.fetch("SELECT * FROM daily_impact ORDER BY day") == days
    left = await connection.fetch("SELECT DISTINCT month FROM sessions ORDER BY month")
    assert [row["month"] for row in left] == [month.first_day for month in months[3:]]

    # A late event of a dropped month is set aside, whether or not its flusher knows, and changes
    # no count; its neighbours are stored.
    for flusher in (writer, SessionWriter(Database(dsn), UTC)):
        with pytest.raises((DeadLetter, Retry)):
            await flusher.write(batch_of(of(months[0], 9), of(MONTH, 9)))
        with pytest.raises(DeadLetter, match="counts are final") as caught:
            await flusher.write(batch_of(of(months[0], 9)))
        assert caught.value.reason == "month_dropped"
        await flusher._database.close()
    await writer.write(batch_of(of(MONTH, 1)))
    after = await connection.fetch("SELECT * FROM monthly_impact ORDER BY month")
    assert after[:-1] == before[:-1]
    assert after[-1]["sessions"] == before[-1]["sessions"] + 1


async def test_what_is_not_counted_is_not_dropped(
    connection: asyncpg.Connection, writer: SessionWriter, counter: MonthCounter
) -> None:
    old = MONTH.plus(-9)
    await writer.write(batch_of(of(old, 1), of(MONTH, 1)))
    drop = "SELECT flusher.drop_month($1)"
    assert await connection.fetchval(drop, old.first_day) is False, "not counted"
    await counter.run_once(NOW_US)
    assert await connection.fetchval(drop, MONTH.first_day) is False, "not finished"
    await writer.write(batch_of(of(old, 2)))
    assert await connection.fetchval(drop, old.first_day) is False, "changed since"
    assert await connection.fetchval(drop, date(2020, 1, 1)) is False, "never there"
    await counter.run_once(NOW_US, at_once=True)
    assert await connection.fetchval(drop, old.first_day) is True


async def test_a_month_is_closed_some_days_after_its_end(
    writer: SessionWriter, counter: MonthCounter
) -> None:
    await writer.write(batch_of(of(MONTH, 1)))
    end_us = MONTH.ends_us(UTC)
    assert (await counter.run_once(end_us + CLOSED_AFTER_US - 1)).closed == ()
    assert (await counter.run_once(end_us + CLOSED_AFTER_US)).closed == (MONTH.first_day,)
    assert await counter.run_once(end_us + CLOSED_AFTER_US) == Done()
