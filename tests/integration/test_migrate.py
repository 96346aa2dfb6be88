"""The schema on a real PostgreSQL: how it comes about, what it says, and who may read it."""

import asyncio
import subprocess
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from embedded.postgres import PostgresServer
from flusher.postgres.database import Database
from flusher.postgres.migrate import apply_files, migrations
from flusher.postgres.write import SessionWriter
from tests.conftest import Databases
from tests.events import batch_of, start
from tests.instant import MONTH
from tests.servers import Servers
from tests.system import run_command


async def test_migrate_may_be_raced_and_repeated(databases: Databases) -> None:
    dsn = await databases.create_empty("raced")
    ended = await asyncio.gather(
        *(run_command("flusher", "migrate", DATABASE_URL=dsn) for _ in range(4))
    )
    assert [code for code, _, _ in ended] == [0] * 4, ended
    applied = "".join(output for _, output, _ in ended)
    assert applied.count("applied 0001_sessions") == 1
    assert applied.count("up to date") == 3


async def test_files_that_are_applied_one_by_one_make_what_they_make_at_once(
    databases: Databases, embedded_servers: Servers
) -> None:
    """As when a later release brings the next: schema and migrations are one sequence."""
    files = migrations()
    dumps = []
    for name, steps in (("at_once", [len(files)]), ("one_by_one", range(1, len(files) + 1))):
        dsn = await databases.create_empty(name)
        for step in steps:
            connection = await asyncpg.connect(dsn)
            await apply_files(connection, files[:step])
            await connection.close()
        dumps.append(await asyncio.to_thread(dump_schema, embedded_servers.postgres, dsn))
    assert dumps[0] == dumps[1]
    assert b"CREATE VIEW public.monthly_impact AS" in dumps[0]


def dump_schema(server: PostgresServer, dsn: str) -> list[bytes]:
    program = str(server.programs / "pg_dump")
    made = subprocess.run([program, "--schema-only", dsn], capture_output=True, check=True)
    # But for the key that each dump has of its own.
    return [line for line in made.stdout.splitlines() if b"restrict " not in line]


async def test_every_table_view_and_column_says_what_it_is(connection: asyncpg.Connection) -> None:
    """Metabase shows the comments of what it sees; of the rest only the tables have some, and the
    columns are explained beside their declarations.
    """
    await connection.execute("SELECT flusher.create_month($1)", MONTH.first_day)
    silent = await connection.fetch(
        """
        SELECT c.oid::regclass::text AS relation, a.attname
        FROM pg_class c
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace IN ('public'::regnamespace, 'flusher'::regnamespace)
            AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
            AND (
                obj_description(c.oid) IS NULL
                OR (c.relnamespace = 'public'::regnamespace
                    AND col_description(c.oid, a.attnum) IS NULL)
            )
        """
    )
    assert silent == []


async def test_what_can_not_be_added_up_says_so_first(connection: asyncpg.Connection) -> None:
    """Other tools than Metabase add up everything that is a number, and show a comment's begin."""
    comments = await connection.fetch(
        "SELECT attname, col_description(attrelid, attnum) AS comment FROM pg_attribute "
        "WHERE attrelid = 'monthly_impact'::regclass AND attname LIKE 'unique%'"
    )
    assert len(comments) == 3
    for row in comments:
        assert row["comment"].startswith("Can't be added up over months or sites: "), row


async def test_the_reader_sees_the_table_and_the_views_and_nothing_else(
    connection: asyncpg.Connection, database: Database
) -> None:
    await SessionWriter(database, ZoneInfo("UTC")).write(batch_of(start(), start(role="user")))
    await connection.execute("SET ROLE impact_reader")
    for relation in ("sessions", "monthly_impact", "daily_impact", "data_quality"):
        assert await connection.fetch(f"SELECT * FROM {relation}")
    for forbidden in (
        "SELECT * FROM flusher.upgrades",
        f"SELECT * FROM flusher.sessions_{MONTH.first_day:%Y_%m}",
        "SELECT * FROM flusher.impact_migrations",
        "DELETE FROM sessions",
        "UPDATE sessions SET site = 'x'",
        "INSERT INTO sessions SELECT * FROM sessions",
        f"SELECT flusher.create_month('{MONTH.plus(2)}-01')",
        "CREATE TABLE mine ()",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(forbidden)


async def test_the_views_count(connection: asyncpg.Connection, database: Database) -> None:
    writer = SessionWriter(database, ZoneInfo("UTC"))
    anna, ben, ida = (letter * 16 for letter in (b"a", b"b", b"i"))
    await writer.write(
        batch_of(
            start(visitor=anna),
            start(visitor=anna),
            start(visitor=ben),
            start(visitor=ida, role="admin"),
            start(visitor=ida, role="admin", seconds=86_400),
        )
    )
    (month,) = await connection.fetch("SELECT * FROM monthly_impact")
    assert dict(month.items()) | {"month": None, "site": None} == {
        "month": None,
        "site": None,
        "sessions": 5,
        "unique_users": 3,
        "signed_in_sessions": 2,
        "unique_signed_in_users": 1,
        "visitor_sessions": 3,
        "unique_visitors": 2,
    }
    days = await connection.fetch("SELECT * FROM daily_impact ORDER BY day")
    assert [(d["sessions"], d["signed_in_sessions"], d["visitor_sessions"]) for d in days] == [
        (4, 1, 3),
        (1, 1, 0),
    ]


async def test_days_are_those_of_the_calendar(databases: Databases) -> None:
    """Noon in UTC is the next day on Kiritimati."""
    dsn = await databases.create()
    code, _, errors = await run_command(
        "flusher", "migrate", DATABASE_URL=dsn, CALENDAR_TIMEZONE="Pacific/Kiritimati"
    )
    assert code == 0, errors
    async with Database(dsn) as database:
        await SessionWriter(database, ZoneInfo("UTC")).write(batch_of(start()))
    connection = await asyncpg.connect(dsn)
    (row,) = await connection.fetch(
        "SELECT day, created_at::date AS utc FROM daily_impact, sessions"
    )
    await connection.close()
    assert (row["day"] - row["utc"]).days == 1


async def test_a_database_without_the_schema_is_one_clear_line(
    databases: Databases, embedded_servers: Servers
) -> None:
    dsn = await databases.create_empty("bare")
    code, output, errors = await run_command(
        "flusher", "status", DATABASE_URL=dsn, REDIS_URL=embedded_servers.redis.url
    )
    assert (code, output) == (2, "")
    assert errors.count("\n") == 1, errors
    assert "python -m flusher migrate" in errors


async def test_the_list_of_migrations_is_moved_out_of_the_analysts_sight(
    databases: Databases,
) -> None:
    """Earlier it was in the schema public: Metabase showed it as one of the tables."""
    dsn = await databases.create()
    connection = await asyncpg.connect(dsn)
    await connection.execute("ALTER TABLE flusher.impact_migrations SET SCHEMA public")
    code, output, errors = await run_command("flusher", "migrate", DATABASE_URL=dsn)
    assert (code, output, errors) == (0, "the database is up to date\n", "")
    found = await connection.fetch(
        "SELECT relnamespace::regnamespace::text AS schema FROM pg_class "
        "WHERE relname = 'impact_migrations'"
    )
    await connection.close()
    assert [row["schema"] for row in found] == ["flusher"]
