"""docs/metabase.md as Metabase's role: its queries, and what Metabase asks when it looks around."""

import re
from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from contract.calendar import Month
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from runtime.clock import wall_clock
from tests.events import batch_of, start
from tests.instant import NOON_US
from tests.integration.test_report import fill

PAGE = Path(__file__).parents[2].joinpath("docs", "metabase.md").read_text()
BLOCKS = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
SETUP, QUERIES = BLOCKS[0], BLOCKS[1:]
TITLES = re.findall(r"^### (.*)$", PAGE, re.MULTILINE)
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


@pytest.fixture
async def metabase(
    dsn: str, database: Database, this_month: Month
) -> AsyncIterator[asyncpg.Connection]:
    """Connected as the page says, to some months of two sites."""
    await fill(database, wall_clock())
    before = this_month.plus(-1)
    place = (before.starts_us(UTC) - NOON_US) / 1e6 + 86_400 + 9
    writer = SessionWriter(database, ZoneInfo("UTC"))
    await writer.write(batch_of(start(site="b.example.org", month=before, seconds=place)))
    owner = await asyncpg.connect(dsn)
    # Roles are the server's and outlive a test's database.
    await owner.execute("DROP ROLE IF EXISTS metabase")
    await owner.execute(SETUP)
    await owner.execute("UPDATE sessions SET upgraded_at = created_at WHERE highest_role <> ''")
    connection = await asyncpg.connect(dsn.replace("postgres@", "metabase@"))
    yield connection
    await connection.close()
    await owner.execute("DROP ROLE metabase")
    await owner.close()


async def test_every_query_of_the_page_answers(metabase: asyncpg.Connection) -> None:
    assert len(TITLES) == len(QUERIES) > 5
    for title, query in zip(TITLES, QUERIES, strict=True):
        for condition in ("1 = 1", '("public"."monthly_impact"."site" = \'city.example.org\')'):
            rows = await metabase.fetch(query.replace("{{site}}", condition))
            assert rows, title
            assert all(value is not None for row in rows for value in row.values()), title


async def test_its_numbers_are_the_known_ones(metabase: asyncpg.Connection) -> None:
    people = await metabase.fetch(QUERIES[0].replace("{{site}}", "site = 'city.example.org'"))
    assert [tuple(row)[1:] for row in people] == [(1, 2), (2, 3), (1, 1)]
    share = await metabase.fetch(QUERIES[2].replace("{{site}}", "site = 'city.example.org'"))
    assert [round(float(row["signed_in_share"]), 4) for row in share] == [0, 0.3333, 0]


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
    assert types == {"uuid", "date", "text", "timestamptz", "int8", "bool"}, (
        "Metabase knows each of them"
    )


@pytest.mark.parametrize("relation", READABLE)
async def test_metabase_may_look_into_each(metabase: asyncpg.Connection, relation: str) -> None:
    """The fingerprint's sample, the distinct values of a filter, and a question's summary."""
    assert (
        await metabase.fetch(f'SELECT TRUE FROM "public"."{relation}" WHERE 1 <> 1 LIMIT 0') == []
    )
    sample = await metabase.fetch(f'SELECT * FROM "public"."{relation}" LIMIT 10000')
    assert sample
    for column in sample[0].keys():  # noqa: SIM118 - a Record iterates over its values
        for question in (
            f'SELECT substring("{column}"::text, 1, 1234) FROM "public"."{relation}" LIMIT 10000',
            f'SELECT "{column}" FROM "public"."{relation}" GROUP BY 1 ORDER BY 1 ASC LIMIT 1000',
            f'SELECT count(DISTINCT "{column}"), count(*) FROM "public"."{relation}"',
        ):
            assert await metabase.fetch(question)


@pytest.mark.parametrize(
    "forbidden",
    [
        "SELECT * FROM flusher.upgrades",
        "SELECT * FROM flusher.count_changes",
        "SELECT * FROM flusher.counts",
        "SELECT * FROM flusher.all_counts",
        "SELECT * FROM flusher.months",
        "SELECT * FROM flusher.checks",
        "SELECT * FROM flusher.upgrades_given_up",
        "SELECT * FROM flusher.salts",
        "SELECT * FROM flusher.dead_letters",
        "SELECT * FROM flusher.calendar",
        "SELECT * FROM flusher.impact_migrations",
        "SELECT flusher.drop_month('2020-01-01')",
        "SELECT flusher.missing_counts('2020-01-01')",
        "DELETE FROM sessions",
        "UPDATE sessions SET site = 'x'",
        "INSERT INTO sessions SELECT * FROM sessions",
        "TRUNCATE sessions",
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
    ],
)
async def test_the_rest_is_refused(metabase: asyncpg.Connection, forbidden: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await metabase.execute(forbidden)
