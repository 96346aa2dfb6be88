"""Several systems' databases, united for reports by `deploy/reporting.sql`."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from contract.calendar import DAY_US, Month
from embedded.postgres import PostgresServer
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from tests.counted import count_sign_ins
from tests.events import batch_of, start
from tests.instant import MONTH, NOON_US, UTC
from tests.integration.test_metabase import QUERIES
from tests.replicated import replicated
from tests.reporting import BEHIND, admit_reporting, ask_for_passwords, run_again, unite
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres, execute, flavours
from tests.system import ROOT, eventually, fail_in_one_line, run_successfully

TAKE_OUT = "DROP SERVER south CASCADE; DROP SCHEMA south CASCADE"
OURS = "WHERE site IN ('a.example.org', 'b.example.org')"
VIEWS = ["daily_impact", "data_quality", "monthly_impact", "sessions"]


@dataclass
class United:
    north: PostgresServer
    south: PostgresServer
    dsn: str


@pytest.fixture(scope="module", params=flavours(), ids=lambda flavour: flavour.name)
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """Two PostgreSQL servers; the reporting database is on the second."""
    folder = tmp_path_factory.mktemp("reporting")
    programs = request.param.postgres_programs
    north, south = (
        CopiedPostgres(folder / name, bin_dir=programs, settings=POSTGRES_SETTINGS)
        for name in ("north", "south")
    )
    with north, south:
        for server in (north, south):
            asyncio.run(_prepare(server))
        yield north, south


async def _prepare(server: PostgresServer) -> None:
    await run_successfully("flusher", "migrate", DATABASE_URL=server.dsn())
    await admit_reporting(server)


@pytest.fixture(scope="module")
def united(servers: tuple[PostgresServer, PostgresServer]) -> United:
    north, south = servers

    async def fill() -> None:  # two people on a site of each, one of them twice
        await store(north, "a.example.org", b"vvw")
        await store(south, "b.example.org", b"vw")

    asyncio.run(fill())
    return United(north, south, unite(south, north=north, south=south))


async def store(
    server: PostgresServer, site: str, visitors: bytes, month: Month = MONTH, day: int = 1
) -> None:
    """A session of each visitor, on a day of the month."""
    async with Database(server.dsn()) as database:
        seconds = (month.starts_us(UTC) + day * DAY_US - DAY_US // 2 - NOON_US) / 1e6
        events = [
            start(site=site, visitor=bytes([who]) * 16, month=month, seconds=seconds)
            for who in visitors
        ]
        await SessionWriter(database, UTC).write(batch_of(*events))


@pytest.fixture
async def reader(united: United) -> AsyncIterator[asyncpg.Connection]:
    """As Metabase connects: a member of `impact_reader`, with a password."""
    await execute(
        united.dsn,
        "DROP ROLE IF EXISTS metabase",
        "CREATE ROLE metabase LOGIN PASSWORD 'm'",
        "GRANT impact_reader TO metabase",
    )
    connection = await asyncpg.connect(united.dsn.replace("postgres@", "metabase:m@"))
    yield connection
    await connection.close()


async def plan(connection: asyncpg.Connection, query: str) -> str:
    rows = await connection.fetch(f"EXPLAIN (VERBOSE) {query}")
    return "\n".join(row[0] for row in rows)


async def test_what_it_shows_has_the_columns_types_and_descriptions_of_one_system(
    united: United, reader: asyncpg.Connection
) -> None:
    """For Metabase, which finds tables, fields and what they mean in the catalog."""
    query = (
        "SELECT c.relname, attname, format_type(atttypid, -1), col_description(c.oid, attnum), "
        "obj_description(c.oid) FROM pg_class c JOIN pg_attribute ON attrelid = c.oid "
        "WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND relkind IN ('v', 'p') "
        "AND has_table_privilege('impact_reader', c.oid, 'SELECT') ORDER BY c.relname, attnum"
    )
    one = await asyncpg.connect(united.north.dsn())
    there = await one.fetch(query)
    await one.close()
    here = await reader.fetch(query)
    typed = [(*row[:2], row[2].replace("numeric", "bigint"), *row[3:]) for row in map(tuple, there)]
    assert [tuple(row) for row in here] == typed
    assert {row["relname"] for row in here} >= {*VIEWS}


GROUPED = "SELECT month, highest_role, count(*), count(DISTINCT monthly_user_hash) FROM {}"


@pytest.mark.parametrize(
    ("question", "systems", "sent"),
    [
        (
            "SELECT month, sum(unique_users), sum(sessions) FROM monthly_impact GROUP BY month",
            *(2, r"FROM public\.monthly_impact\b"),
        ),
        (
            "SELECT * FROM monthly_impact WHERE site = 'a.example.org'",
            *(2, r"FROM public\.monthly_impact\b.*'a\.example\.org'"),
        ),
        (
            "SELECT day, sum(visitor_sessions) FROM daily_impact GROUP BY day",
            *(2, r"FROM public\.daily_impact\b"),
        ),
        (
            f"{GROUPED.format('north.sessions')} GROUP BY month, highest_role",
            *(1, r"count\(DISTINCT monthly_user_hash\).*GROUP BY"),
        ),
    ],
    ids=["people by month", "a site", "visitors by day", "sessions of one system"],
)
async def test_each_system_counts_its_own_and_no_session_crosses_the_wire(
    reader: asyncpg.Connection, question: str, systems: int, sent: str
) -> None:
    found = re.findall(r"Remote SQL: (.*)", await plan(reader, question))
    assert len(found) == systems
    assert all(re.search(sent, sql) for sql in found), found


async def test_of_the_sessions_of_all_only_those_of_the_month_are_fetched(
    reader: asyncpg.Connection,
) -> None:
    """A date that is reckoned goes over as a sub-select; else each system sends every session."""
    reckoned = "(date_trunc('month', current_date) - interval '1 month')::date"
    question = "SELECT count(*) FROM sessions WHERE month = {}"
    selected = await plan(reader, question.format(f"(SELECT {reckoned})"))
    assert len(re.findall(r"Remote SQL: .*WHERE \(\(month = \$1::date\)\)", selected)) == 2
    assert "WHERE" not in "".join(
        re.findall(r"Remote SQL: (.*)", await plan(reader, question.format(reckoned)))
    ), "what docs/reporting.md warns of"


async def test_a_system_that_is_away_is_named(united: United) -> None:
    """By every view, also where the other one has the answer, and by the report."""
    connection = await asyncpg.connect(united.dsn)
    united.north.kill()
    try:
        for view in VIEWS:
            with pytest.raises(asyncpg.PostgresError, match='could not connect to server "north"'):
                await connection.fetch(f"SELECT count(*) FROM {view}")
        errors = await fail_in_one_line(1, "flusher", "report", DATABASE_URL=united.dsn)
        assert '"north"' in errors
        assert (
            await connection.fetchval(f"SELECT sum(sessions) FROM south.monthly_impact {OURS}") == 2
        )
    finally:
        await asyncio.to_thread(united.north.start)
    for view in ("monthly_impact", "daily_impact"):
        assert await connection.fetchval(f"SELECT sum(sessions) FROM {view} {OURS}") == 5
    assert await connection.fetchval(f"SELECT count(*) FROM sessions {OURS}") == 5
    await connection.close()


async def test_a_site_that_moved_is_one_site(united: United, reader: asyncpg.Connection) -> None:
    """Its sessions add up, and so do its sign-ins; of the month of the move each system has people
    of its own.
    """
    before, after = MONTH.plus(-2), MONTH.plus(-1)
    last_day = (MONTH.first_day - after.first_day).days
    await store(united.north, "m.example.org", b"vvw", before)
    await store(united.north, "m.example.org", b"v", after, day=last_day)
    await store(united.south, "m.example.org", b"vw", after)
    await store(united.south, "m.example.org", b"v", after, day=last_day)
    rows = await reader.fetch(
        "SELECT month, sessions, unique_users FROM monthly_impact "
        "WHERE site = 'm.example.org' ORDER BY month"
    )
    assert [tuple(row) for row in rows] == [(before.first_day, 3, 2), (after.first_day, 4, 3)]
    days = "SELECT sum(sessions) FROM daily_impact WHERE site = 'm.example.org'"
    assert await reader.fetchval(days) == 7
    quality = (
        "SELECT comparable, sign_in_pairs, visitors_per_user, users_per_visitor "
        "FROM {}.data_quality WHERE site = 'm.example.org' ORDER BY month"
    )
    first, second, *_ = map(tuple, await reader.fetch(quality.format("public")))
    (of_north, *_) = await reader.fetch(quality.format("north"))
    assert (first, second) == ((of_north["comparable"], 0, None, None), (False, 0, None, None))
    for server, counted in ((united.north, (30, 15, 20)), (united.south, (30, 25, 30))):
        connection = await asyncpg.connect(server.dsn())
        await count_sign_ins(connection, after.first_day, "m.example.org", *counted)
        await connection.close()
    _, second, *_ = map(tuple, await reader.fetch(quality.format("public")))
    assert second == pytest.approx((False, 60, 1.5, 1.2))


@pytest.mark.usefixtures("reader")
async def test_the_report_reads_it_as_it_reads_one_system(
    united: United, this_month: Month
) -> None:
    """As the role that Metabase has, with DATABASE_URL alone."""
    await store(united.north, "r.example.org", b"vvw", this_month)
    await store(united.south, "s.example.org", b"v", this_month)
    dsn = united.dsn.replace("postgres@", "metabase:m@")
    told = {}
    for site in ("r.example.org", "s.example.org"):
        words = ("flusher", "report", "--format=json", f"--site={site}")
        output = await run_successfully(*words, DATABASE_URL=dsn)
        month = json.loads(output)["months"][-1]
        told[site] = (month["month"], month["sessions"], month["people"])
    assert told == {
        "r.example.org": (str(this_month), 3, 2),
        "s.example.org": (str(this_month), 1, 1),
    }
    output = await run_successfully("flusher", "report", "--by=site", DATABASE_URL=dsn)
    assert {"r.example.org", "s.example.org"} <= set(output.split())


async def test_every_question_of_the_handbook_is_answered(reader: asyncpg.Connection) -> None:
    """`docs/metabase.md`, of all sites and of one."""
    assert len(QUERIES) > 5
    for query in QUERIES:
        for condition in ("1 = 1", "site = 'a.example.org'"):
            await reader.fetch(query.replace("{{site}}", condition))


async def test_it_may_be_made_again_and_a_system_taken_out(united: United) -> None:
    """What a system lacks is named, and then nothing is changed."""
    assert run_again(united.south, north=united.north).stderr == ""
    north = await asyncpg.connect(united.north.dsn())
    await north.execute("ALTER VIEW daily_impact RENAME TO renamed")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run_again(united.south, north=united.north)
    await north.execute("ALTER VIEW renamed RENAME TO daily_impact")
    await north.close()
    assert '"north.daily_impact" does not exist' in failed.value.stderr
    reporting = await asyncpg.connect(united.dsn)
    total = f"SELECT sum(sessions) FROM daily_impact {OURS}"
    assert await reporting.fetchval(total) == 5
    assert TAKE_OUT in (ROOT / "docs/reporting.md").read_text()
    await reporting.execute(TAKE_OUT)
    run_again(united.south, north=united.north)
    assert await reporting.fetchval(total) == 3
    run_again(united.south, south=united.south)
    assert await reporting.fetchval(total) == 5
    await reporting.close()


async def test_a_reader_may_only_read_and_does_not_see_the_password(
    reader: asyncpg.Connection,
) -> None:
    for forbidden in (
        "DELETE FROM north.sessions",
        "UPDATE north.sessions SET site = 'x'",
        "CREATE TABLE public.mine ()",
        "CREATE TABLE north.mine ()",
        "SELECT rolpassword FROM pg_authid",
        "CREATE SERVER mine FOREIGN DATA WRAPPER postgres_fdw",
        "SELECT umoptions FROM pg_user_mapping",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(forbidden)
    mappings = await reader.fetch("SELECT * FROM pg_user_mappings")
    assert {row["umoptions"] for row in mappings} == {None}


async def test_a_replica_shows_all_of_an_earlier_moment(tmp_path: Path, this_month: Month) -> None:
    """Which is what `exact at every commit` means there: the views and the rows agree."""
    async with replicated(tmp_path) as servers:
        primary, replica = servers.primary, servers.replica
        await run_successfully("flusher", "migrate", DATABASE_URL=primary.dsn())
        await store(primary, "a.example.org", b"vvw", this_month)
        await ask_for_passwords(replica)
        await admit_reporting(primary)
        behind = await asyncpg.connect(replica.dsn())
        await eventually(partial(behind.fetchval, "SELECT to_regrole('reporting')"))
        await behind.execute("SELECT pg_wal_replay_pause()")
        paused = partial(behind.fetchval, "SELECT pg_get_wal_replay_pause_state()")
        await eventually(paused, lambda state: state == "paused")
        await store(primary, "a.example.org", b"xy", this_month)
        reports = await asyncpg.connect(unite(primary, north=replica, south=primary))

        async def seen() -> list[int]:
            """Of each system by its view, then by its rows."""
            return [
                int(await reports.fetchval(f"SELECT {count} FROM {system}.{relation}"))
                for system in ("north", "south")
                for count, relation in (
                    ("sum(sessions)", "monthly_impact"),
                    ("count(*)", "sessions"),
                )
            ]

        assert await seen() == [3, 3, 5, 5]
        dsn = f"{replica.dsn()}?target_session_attrs=any"
        output = await run_successfully("flusher", "report", "--format=json", DATABASE_URL=dsn)
        assert json.loads(output)["months"][-1]["sessions"] == 3
        await behind.execute("SELECT pg_wal_replay_resume()")
        await eventually(seen, lambda both: both == [5, 5, 5, 5])
        assert await behind.fetchval(BEHIND) >= timedelta(0)
        await behind.close()
        await reports.close()
