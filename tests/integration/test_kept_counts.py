"""Kept counts: exact at each commit, whatever happens meanwhile; no report reads years of rows."""

import asyncio
import itertools
import json
from contextlib import suppress
from datetime import timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from asyncpg.pgproto.pgproto import UUID

from contract.calendar import from_us
from contract.errors import DeadLetter, Retry
from embedded.postgres import PostgresServer
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database
from flusher.postgres.migrate import migrate
from flusher.postgres.months import WAITS_SECONDS
from flusher.postgres.statements import statement
from flusher.postgres.store_counts import store_counts
from flusher.postgres.write import SessionWriter
from flusher.rows.counts import Counts, Session
from tests.conftest import Databases
from tests.events import batch_of, upgrade
from tests.instant import MONTH, UTC
from tests.integration.keeping import A_SITE as SITE
from tests.integration.keeping import Done, Keeper, keeper_of, visit
from tests.live_counts import check_views
from tests.servers import Servers
from tests.system import run_command, run_successfully

# Over for longer than the days of grace, whatever day it is; and one that is not over.
OVER, BEFORE = MONTH.plus(-2), MONTH.plus(-3)


@pytest.fixture(scope="module")
def databases(postgres: PostgresServer, embedded_servers: Servers) -> Databases:
    """On every PostgreSQL that there is."""
    return Databases(Servers(embedded_servers.redis, postgres))


@pytest.fixture
def keeper(database: Database) -> Keeper:
    return keeper_of(database)


async def partitions_read(connection: asyncpg.Connection, query: str) -> set[str]:
    plan = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {query}")
    read = [row[0] for row in plan if "never executed" not in row[0]]
    return {word[:16] for line in read for word in line.split() if word.startswith("sessions_2")}


async def test_no_report_reads_sessions(
    connection: asyncpg.Connection, writer: SessionWriter, keeper: Keeper
) -> None:
    months = [MONTH.plus(-number) for number in range(6)]
    await writer.write(
        batch_of(*(visit(month, person) for month in months for person in range(1, 30)))
    )
    queries = (
        "SELECT * FROM monthly_impact",
        f"SELECT * FROM monthly_impact WHERE site = '{SITE}'",
        f"SELECT * FROM daily_impact WHERE day >= '{months[-1]}-01'",
    )
    for closed in (False, True):
        if closed:
            await keeper.run_once()
            await writer.write(batch_of(visit(OVER, 99)))
        await connection.execute("ANALYZE")
        for query in queries:
            assert await partitions_read(connection, query) == set(), query
        await check_views(connection)


async def test_who_begins_and_who_ceases_to_count(
    connection: asyncpg.Connection, writer: SessionWriter, database: Database
) -> None:
    """Each person had so many visitor's and signed-in sessions, and then has so many."""
    await writer.create_months([MONTH])
    at = from_us(visit(MONTH, 1).at_us)
    for number, kinds in enumerate(itertools.product([0, 1, 2], repeat=4)):
        visitor = Session(MONTH.first_day, SITE, UUID(bytes([number]) * 16), False, at)
        user = visitor._replace(signed_in=True)
        had, has = kinds[:2], kinds[2:]
        for gone, come in (((0, 0), had), (had, has)):
            counts = Counts()
            async with connection.transaction():
                await connection.execute(
                    "DELETE FROM sessions WHERE monthly_user_hash = $1", visitor.monthly_user_hash
                )
                for each, went, came in zip((visitor, user), gone, come, strict=True):
                    counts.add(each, came - went)
                    for _ in range(came):
                        await connection.execute(
                            "INSERT INTO sessions "
                            "(id, month, site, monthly_user_hash, highest_role, created_at) "
                            "VALUES (gen_random_uuid(), $1, $2, $3, $4, $5)",
                            *visitor[:3],
                            "user" if each.signed_in else None,
                            at,
                        )
                await store_counts(connection, counts.by_month())
            await check_views(connection)
    assert await check_counts(database) == []


async def test_the_counts_are_exact_under_fire(
    connection: asyncpg.Connection, keeper: Keeper, dsn: str, database: Database
) -> None:
    """Two flushers write the same people's sessions of two months, which are closed meanwhile. They
    write them in opposite orders and never wait for each other: else it would be a Retry.
    """
    stop = asyncio.Event()

    async def write(number: int) -> None:
        async with Database(dsn) as own:
            writer = SessionWriter(own, UTC)
            while not stop.is_set():
                people = range(20) if number else range(19, -1, -1)
                starts = [visit((MONTH, OVER)[p % 2], p + number) for p in people]
                upgrades = [upgrade(each.id, site=SITE) for each in starts[::3]]
                for each in (batch_of(*starts, *upgrades[:2]), batch_of(*upgrades)):
                    await writer.write(each)

    async with asyncio.TaskGroup() as writing:
        for number in (0, 3):
            writing.create_task(write(number))
        done: list[Done] = []
        while len(done) < 10 or not any(each.closed for each in done):
            await check_views(connection)
            assert await check_counts(database) == []
            with suppress(Retry):
                done.append(await keeper.run_once())
        stop.set()
    assert {month for each in done for month in each.closed} == {OVER.first_day}
    await check_views(connection)
    assert await check_counts(database) == []


async def test_a_month_is_closed_when_it_is_over_and_nothing_of_it_may_be_on_its_way(
    writer: SessionWriter, database: Database
) -> None:
    await writer.write(batch_of(visit(MONTH, 1), visit(OVER, 1)))
    oldest = WAITS_SECONDS + 1

    async def oldest_entry() -> float:
        return oldest

    keeper = keeper_of(database, oldest_entry=oldest_entry)
    assert await keeper.close() == ()
    oldest = WAITS_SECONDS - 1
    assert await keeper.close() == (OVER.first_day,)
    assert await keeper.close() == (), "it is closed, and the other is not over"


async def test_a_month_is_closed_three_days_after_its_end_in_the_calendars_zone(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute("UPDATE flusher.state SET timezone = 'Pacific/Kiritimati'")
    await connection.execute("SELECT flusher.create_month($1)", OVER.first_day)
    since = await connection.fetchval(
        "SELECT now() - ($1::date + interval '1 month') AT TIME ZONE 'Pacific/Kiritimati'",
        OVER.first_day,
    )
    closable = [
        await connection.fetch(
            statement("months_to_close"), since + timedelta(seconds=seconds), "hour"
        )
        for seconds in (30, -30)
    ]
    assert [len(rows) for rows in closable] == [0, 1]


async def test_check_reports_and_repairs_what_an_operator_deleted(
    connection: asyncpg.Connection,
    writer: SessionWriter,
    keeper: Keeper,
    dsn: str,
    database: Database,
) -> None:
    people = [visit(month, n, role="user") for month in (OVER, MONTH) for n in (1, 2, 3)]
    await writer.write(batch_of(*people, visit(OVER, 4, "b.example.org")))
    await keeper.run_once()
    assert await check_counts(database) == []
    checked_at = await connection.fetchval("SELECT checked_at FROM flusher.state")
    assert checked_at is not None
    await connection.execute("DELETE FROM sessions WHERE monthly_user_hash = $1", UUID(b"\1" * 16))
    differences = await check_counts(database)
    assert f"{SITE}, {OVER}: 1 signed-in users too many" in differences
    assert not any("b.example.org" in each for each in differences)
    now = await connection.fetchval("SELECT checked_at FROM flusher.state")
    assert now == checked_at, "a check that finds a difference is not noted"
    one = await run_command("flusher", "check", "--month", str(OVER), DATABASE_URL=dsn)
    assert (one[0], len(one[1].splitlines())) == (1, 4)
    output = await run_successfully("flusher", "check", "--repair", DATABASE_URL=dsn)
    assert output.splitlines()[-1].startswith("repaired")
    await check_views(connection)
    assert await check_counts(database) == []
    await connection.execute("TRUNCATE sessions")
    await check_counts(database, repair=True)
    assert await connection.fetch("SELECT * FROM monthly_impact") == []
    assert await connection.fetch("SELECT * FROM daily_impact") == []
    await writer.write(batch_of(visit(OVER, 5), visit(MONTH, 6)))
    await check_views(connection)


async def test_with_another_calendar_the_days_are_counted_anew(
    connection: asyncpg.Connection, writer: SessionWriter, keeper: Keeper, database: Database
) -> None:
    await writer.write(batch_of(visit(OVER, 1), visit(MONTH, 1)))
    await keeper.run_once()
    days = [row["day"] for row in await connection.fetch("SELECT day FROM daily_impact ORDER BY 1")]
    await connection.execute("UPDATE sessions SET created_at = created_at + interval '23 hours'")
    await migrate(connection, ZoneInfo("Pacific/Kiritimati"))
    await check_views(connection)
    await writer.write(batch_of(visit(MONTH, 2)))
    await check_views(connection)
    assert await check_counts(database) == []
    after = await connection.fetch(
        "SELECT max(day) AS day FROM daily_impact GROUP BY date_trunc('month', day) ORDER BY 1"
    )
    assert [(row["day"] - day).days for row, day in zip(after, days, strict=True)] == [1, 1]


async def read_of(connection: asyncpg.Connection, table: str, query: str) -> tuple[int, int]:
    """How many rows and pages of a table a query reads."""
    plan = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {query}")
    nodes = [json.loads(plan)[0]["Plan"]]
    rows = pages = 0
    for node in nodes:
        nodes += node.get("Plans", [])
        if node.get("Relation Name") == table:
            rows += node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            pages += node["Shared Hit Blocks"] + node["Shared Read Blocks"]
    return rows, pages


async def test_a_report_reads_no_changes_of_other_sites_and_the_overview_no_pages_of_days(
    connection: asyncpg.Connection,
) -> None:
    """There may be 200,000 changes until the next vacuum, added up but not yet removed: here 200 of
    each of 100 sites, of the whole month and of each day. Whole months lie together when they are
    added up, however the changes came: some pages, not all.
    """
    await connection.execute(
        """
        INSERT INTO flusher.count_changes
        SELECT n < 0, 'site-' || site, $1::date, $1::date + greatest(n, 0) % 28, 1, 0, 1, 0, 1
        FROM generate_series(-100, 99) n, generate_series(1, 100) site
        """,
        MONTH.first_day,
    )
    await connection.execute("VACUUM (ANALYZE) flusher.count_changes")
    query = "SELECT * FROM monthly_impact WHERE site = 'site-7'"
    rows, _ = await read_of(connection, "count_changes", query)
    assert rows == 100
    await connection.execute(statement("fold_counts"))
    await connection.execute("VACUUM (ANALYZE) flusher.counts")
    in_all = await connection.fetchval("SELECT pg_relation_size('flusher.counts') / 8192")
    rows, pages = await read_of(connection, "counts", "SELECT * FROM monthly_impact")
    assert rows == 100
    assert pages < in_all / 4


async def test_of_dropped_months_the_counts_stay(
    connection: asyncpg.Connection, writer: SessionWriter, dsn: str, database: Database
) -> None:
    """A month is named one turn before it is dropped."""
    months = [MONTH.plus(-number) for number in range(6, -1, -1)]
    await writer.write(
        batch_of(*(visit(month, person) for month in months for person in range(1, 4)))
    )
    before = await connection.fetch("SELECT * FROM monthly_impact ORDER BY month")
    days = await connection.fetch("SELECT * FROM daily_impact ORDER BY day")
    keeper = keeper_of(database, kept_months=3)
    assert (await keeper.run_once()).dropped == ()
    dropped = (await keeper.run_once()).dropped
    assert dropped == tuple(month.first_day for month in months[:3])
    assert (await keeper.run_once()).dropped == ()
    assert await connection.fetch("SELECT * FROM monthly_impact ORDER BY month") == before
    assert await connection.fetch("SELECT * FROM daily_impact ORDER BY day") == days
    left = await connection.fetch("SELECT DISTINCT month FROM sessions ORDER BY month")
    assert [row["month"] for row in left] == [month.first_day for month in months[3:]]
    assert await check_counts(database) == []

    # A late event of a dropped month is set aside, whether or not its flusher knows, and changes
    # no count; its neighbours are stored.
    async with Database(dsn) as other:
        with pytest.raises(DeadLetter, match="counts are final") as caught:
            await SessionWriter(other, UTC).write(batch_of(visit(months[0], 9)))
        assert caught.value.reason == "month_dropped"
    with pytest.raises(Retry, match="unless it was dropped"):
        await writer.write(batch_of(visit(months[0], 9)))
    with pytest.raises(DeadLetter, match="counts are final"):
        await writer.write(batch_of(visit(months[0], 9), visit(MONTH, 9)))
    await writer.write(batch_of(visit(MONTH, 1)))
    after = await connection.fetch("SELECT * FROM monthly_impact ORDER BY month")
    assert after[:-1] == before[:-1]
    assert after[-1]["sessions"] == before[-1]["sessions"] + 1


async def test_only_closed_months_are_dropped(
    connection: asyncpg.Connection, writer: SessionWriter, keeper: Keeper
) -> None:
    await writer.write(batch_of(visit(OVER, 1), visit(MONTH, 1)))
    drop = "SELECT flusher.drop_month($1)"
    assert await connection.fetchval(drop, OVER.first_day) is False, "it is open"
    await keeper.run_once()
    assert await connection.fetchval(drop, MONTH.first_day) is False, "it is not over"
    assert await connection.fetchval(drop, MONTH.plus(-90).first_day) is False, "never there"
    assert await connection.fetchval(drop, OVER.first_day) is True
