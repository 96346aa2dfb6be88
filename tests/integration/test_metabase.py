"""docs/metabase.md as Metabase's role: its queries, and what Metabase itself asks of a database."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from contract.calendar import Month, month_at
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from runtime.clock import wall_clock
from tests.conftest import Databases
from tests.counted import count_sign_ins
from tests.events import SITE, batch_of, start
from tests.instant import MONTH, NOON_US, UTC
from tests.integration.test_report import fill
from tests.servers import execute

PAGE = Path(__file__).parents[2].joinpath("docs", "metabase.md").read_text()
BLOCKS = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
SETUP, QUERIES = BLOCKS[0], BLOCKS[1:]
TITLES = re.findall(r"^### (.*)$", PAGE, re.MULTILINE)
OTHER = "b.example.org"
READABLE = ["daily_impact", "data_quality", "monthly_impact", "sessions"]


# What Metabase's driver asks of a PostgreSQL database while it syncs, scans and fingerprints, by
# its source (src/metabase/driver/postgres.clj and sql_jdbc/sync), in our own words.
TABLES = """
    SELECT n.nspname AS schema, c.relname AS name, c.relkind, d.description, stat.n_live_tup
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON c.relnamespace = n.oid
    LEFT JOIN pg_catalog.pg_description d
        ON c.oid = d.objoid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass
    LEFT JOIN pg_stat_user_tables stat ON n.nspname = stat.schemaname AND c.relname = stat.relname
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND c.relkind IN ('r', 'p', 'v', 'f', 'm')
    ORDER BY 3, 1, 2"""
PRIVILEGES = """
    SELECT t.schemaname, t.objectname,
        has_any_column_privilege(current_user, format('%I.%I', schemaname, objectname), 'select')
            AS reads,
        has_any_column_privilege(current_user, format('%I.%I', schemaname, objectname), 'insert')
            OR has_any_column_privilege(current_user, format('%I.%I', schemaname, objectname),
                'update')
            OR has_table_privilege(current_user, format('%I.%I', schemaname, objectname), 'delete')
            AS writes
    FROM (SELECT schemaname, tablename AS objectname FROM pg_catalog.pg_tables
        UNION SELECT schemaname, viewname FROM pg_catalog.pg_views
        UNION SELECT schemaname, matviewname FROM pg_catalog.pg_matviews) t
    WHERE t.schemaname !~ '^pg_' AND t.schemaname <> 'information_schema'
        AND has_schema_privilege(current_user, t.schemaname, 'usage')"""
FIELDS = """
    SELECT c.table_name, c.column_name, c.udt_name, pk.column_name IS NOT NULL AS is_key,
        col_description(format('%I.%I', c.table_schema, c.table_name)::regclass::oid,
            c.ordinal_position) AS comment
    FROM information_schema.columns c
    LEFT JOIN (
        SELECT tc.table_schema, tc.table_name, kc.column_name
        FROM information_schema.table_constraints tc
        JOIN information_schema.key_column_usage kc
            USING (constraint_name, table_schema, table_name)
        WHERE tc.constraint_type = 'PRIMARY KEY'
    ) pk USING (table_schema, table_name, column_name)
    WHERE c.table_schema !~ '^information_schema|catalog_history|pg_'
        AND c.table_schema = 'public'"""
FOREIGN_KEYS = """
    SELECT fk_ns.nspname, fk_table.relname, fk_column.attname, pk_table.relname, pk_column.attname
    FROM pg_constraint c
    JOIN pg_class fk_table ON c.conrelid = fk_table.oid
    JOIN pg_namespace fk_ns ON c.connamespace = fk_ns.oid
    JOIN pg_attribute fk_column ON c.conrelid = fk_column.attrelid
    JOIN pg_class pk_table ON c.confrelid = pk_table.oid
    JOIN pg_attribute pk_column ON c.confrelid = pk_column.attrelid
    WHERE c.contype = 'f' AND fk_column.attnum = ANY (c.conkey)
        AND pk_column.attnum = ANY (c.confkey)"""
ENUMS = """
    SELECT nspname, typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.oid IN (SELECT DISTINCT enumtypid FROM pg_enum)"""


@pytest.fixture(scope="module")
def filled(databases: Databases) -> Iterator[str]:
    """The DSN of a database set up as the page says, with some months of two sites."""
    with asyncio.Runner() as runner:
        dsn = runner.run(databases.create())
        runner.run(fill_two_sites(dsn))
        # Roles are the server's and outlive a database.
        runner.run(execute(dsn, "DROP ROLE IF EXISTS metabase", SETUP))
        yield dsn
        runner.run(execute(dsn, "DROP ROLE metabase"))
        runner.run(databases.drop(dsn))


@pytest.fixture
async def metabase(filled: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(filled.replace("postgres@", "metabase@"))
    await connection.execute("SET timezone = 'UTC'")  # as the report time zone does
    yield connection
    await connection.close()


async def fill_two_sites(dsn: str) -> None:
    async with Database(dsn) as database:
        await fill(database, wall_clock())
        current = month_at(wall_clock(), UTC)
        before = current.plus(-1)
        place = (before.starts_us(UTC) - NOON_US) / 1e6 + 86_400 + 9
        again = place + 2 * 86_400
        await SessionWriter(database, UTC).write(
            batch_of(*(start(site=OTHER, month=before, seconds=at) for at in (place, again)))
        )
        async with database.connection() as connection:
            for ago, pairs, visitors in ((0, 19, 19), (1, 20, 20), (2, 30, 20)):
                month = current.plus(-ago).first_day
                await count_sign_ins(connection, month, SITE, pairs, 10, visitors)
    await execute(dsn, "UPDATE sessions SET upgraded_at = created_at WHERE highest_role <> ''")


async def ask(
    metabase: asyncpg.Connection, title: str, site: str | None = SITE
) -> list[tuple[Any, ...]]:
    """A question's rows, filtered as Metabase does it; ratios to four digits."""
    query = dict(zip(TITLES, QUERIES, strict=True))[title]
    table = re.findall(r"FROM (\w+)", query[: query.index("{{site}}")])[-1]
    condition = "1 = 1" if site is None else f'"public"."{table}"."site" = \'{site}\''
    rows = await metabase.fetch(query.replace("{{site}}", f"({condition})"))
    return [
        tuple(round(float(cell), 4) if isinstance(cell, Decimal) else cell for cell in row)
        for row in rows
    ]


def test_a_chart_of_counts_says_what_to_do_where_there_is_no_row() -> None:
    """Without that setting Metabase draws a line over a month that has no session."""
    for section in PAGE.split("\n### ")[1:]:
        chart = re.match(r".*\n\n(?:Line|Bar|Area) chart", section)
        if chart and "::numeric" not in section:
            assert "Replace missing values with: Zero" in section, section


async def test_each_question_has_one_row_a_period_in_the_order_of_time(
    metabase: asyncpg.Connection,
) -> None:
    """The trend card takes the last row for the newest: it had the month before. Each question has
    the filter of its site.
    """
    assert len(QUERIES) > 5
    for title, query in zip(TITLES, QUERIES, strict=True):
        assert query.count("{{site}}") == 1, title
        column = re.match(r"SELECT (month|day)\b(?!, site)", query)
        for site in (None, SITE) if column else ():
            periods = [row[0] for row in await ask(metabase, title, site)]
            assert periods, title
            assert periods == sorted({*periods}), title


async def test_the_trend_is_that_of_the_last_finished_month_like_with_like(
    metabase: asyncpg.Connection, this_month: Month
) -> None:
    """Of two sites one was not counted throughout both months."""
    title = "Last finished month, against the one before"
    expected = [(this_month.plus(-2).first_day, 1), (this_month.plus(-1).first_day, 2)]
    assert await ask(metabase, title) == expected
    assert await ask(metabase, title, None) == expected
    assert await ask(metabase, title, OTHER) == []


async def test_what_is_to_be_known_is_found(
    metabase: asyncpg.Connection, this_month: Month
) -> None:
    before = this_month.plus(-1).first_day
    assert await ask(metabase, "What to know of the numbers") == []
    rows = await ask(metabase, "What to know of the numbers", None)
    assert [row[:4] for row in rows] == [(before, OTHER, None, before + timedelta(days=3))]


async def test_how_far_visitors_are_from_people_is_shown_where_there_are_enough_sign_ins(
    metabase: asyncpg.Connection, this_month: Month
) -> None:
    """The current month has 19 pairs."""
    one, two = (this_month.plus(-number).first_day for number in (1, 2))
    told = [(one, SITE, 2.0, 1.0, 20), (two, SITE, 3.0, 1.5, 30)]
    for site, expected in ((SITE, told), (None, told), (OTHER, [])):
        assert await ask(metabase, "How far visitors are from people", site) == expected


@pytest.mark.parametrize(
    ("title", "of_site", "of_all"),
    [
        ("People by month", [(1, 2), (2, 3), (1, 1)], [(1, 2), (3, 5), (1, 1)]),
        ("Visitors and users by month", [(1, 0), (1, 1), (1, 0)], [(1, 0), (2, 1), (1, 0)]),
        ("Sessions a person", [(2,), (1.5,), (1,)], [(2,), (1.6667,), (1,)]),
        (
            "Share of sessions in which somebody was signed in",
            [(0,), (0.3333,), (0,)],
            [(0,), (0.2,), (0,)],
        ),
        (
            "Sites by people, last finished month",
            [(2, 3, 1, 1, None)],
            [(2, 3, 0.6, 1, None), (1, 2, 0.4, None, None)],
        ),
        ("Sessions by day, last four weeks", [(1, 0)], None),
        ("Roles, last finished month", [(1,), (1,)], [(2,), (1,)]),
        (
            "Conversion: visitors' sessions in which somebody registered or signed in",
            [(1, 0.3333), (0, 0)],
            [(1, 0.2), (0, 0)],
        ),
        ("New and returning people, by day of the current month", [(1, 0)], [(1, 0)]),
    ],
)
async def test_its_numbers_are_the_known_ones(
    metabase: asyncpg.Connection,
    title: str,
    of_site: list[tuple[object, ...]],
    of_all: list[tuple[object, ...]] | None,
) -> None:
    """Each row without its first column, of one site and of all."""
    assert [row[1:] for row in await ask(metabase, title)] == of_site
    if of_all is not None:
        assert [row[1:] for row in await ask(metabase, title, None)] == of_all


async def test_people_who_came_back_are_distinguished_from_those_who_came_once(
    metabase: asyncpg.Connection, this_month: Month
) -> None:
    """By day, too: of the month before, as if this day were in it."""
    assert await ask(metabase, "How many came back, last finished month") == [(2, 0)]
    assert await ask(metabase, "How many came back, last finished month", None) == [(2, 1)]
    first = this_month.plus(-1).first_day
    query = dict(zip(TITLES, QUERIES, strict=True))[
        "New and returning people, by day of the current month"
    ]
    query = query.replace("current_date", f"date '{first}'").replace("{{site}}", "1 = 1")
    assert [tuple(row) for row in await metabase.fetch(query)] == [
        (first, 2, 0),
        (first + timedelta(days=1), 1, 0),
        (first + timedelta(days=3), 0, 1),
    ]


async def test_metabase_finds_the_four_and_what_they_are(metabase: asyncpg.Connection) -> None:
    assert await metabase.fetchval("SHOW timezone")
    assert await metabase.fetch(ENUMS) == []
    assert await metabase.fetch(FOREIGN_KEYS) == []
    described = {
        row["name"]: row["description"]
        for row in await metabase.fetch(TABLES)
        if row["schema"] == "public"
    }
    privileges = await metabase.fetch(PRIVILEGES)
    readable = sorted(row["objectname"] for row in privileges if row["reads"])
    assert readable == READABLE
    assert not any(row["writes"] for row in privileges)
    assert all(described[name] for name in readable)
    fields = await metabase.fetch(FIELDS)
    assert {row["table_name"] for row in fields} == {*READABLE}
    assert all(row["comment"] for row in fields)
    types = {row["udt_name"] for row in fields}
    assert types == {"uuid", "date", "text", "timestamptz", "int8", "float8", "bool"}, (
        "Metabase knows each of them"
    )


async def test_metabase_may_look_into_each(metabase: asyncpg.Connection) -> None:
    """The fingerprint's sample, the distinct values of a filter, and a question's summary."""
    for name in READABLE:
        table = f'"public"."{name}"'
        assert await metabase.fetch(f"SELECT TRUE FROM {table} WHERE 1 <> 1 LIMIT 0") == []
        sample = await metabase.fetch(f"SELECT * FROM {table} LIMIT 10000")
        for column in sample[0].keys():  # noqa: SIM118 - a Record iterates over its values
            for question in (
                f'SELECT substring("{column}"::text, 1, 1234) FROM {table} LIMIT 10000',
                f'SELECT "{column}" FROM {table} GROUP BY 1 ORDER BY 1 ASC LIMIT 1000',
                f'SELECT count(DISTINCT "{column}"), count(*) FROM {table}',
            ):
                assert await metabase.fetch(question)


FORBIDDEN = [
    "SELECT * FROM flusher.upgrades",
    "SELECT flusher.drop_month('2020-01-01')",
    "SELECT flusher.missing_counts('2020-01-01')",
    f"SELECT flusher.create_month('{MONTH.plus(2)}-01')",
    f"SELECT * FROM flusher.sessions_{MONTH.first_day:%Y_%m}",
    "DELETE FROM sessions",
    "UPDATE sessions SET site = 'x'",
    "INSERT INTO sessions SELECT * FROM sessions",
    "DROP VIEW monthly_impact",
    "CREATE TABLE public.mine ()",
    "CREATE SCHEMA mine",
    "ALTER TABLE sessions ADD mine text",
    "COMMENT ON TABLE sessions IS 'mine'",
    "SET ROLE postgres",
    "SELECT pg_read_file('postgresql.conf')",
    "COPY sessions TO PROGRAM 'cat'",
    "SELECT rolpassword FROM pg_authid",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
]


async def test_the_rest_is_refused(metabase: asyncpg.Connection) -> None:
    """To every member of `impact_reader`. That it reads no other table is tested above."""
    for forbidden in FORBIDDEN:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await metabase.execute(forbidden)
