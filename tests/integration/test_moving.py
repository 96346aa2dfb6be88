"""The database on another server, by logical replication and from a dump; and at another date."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from embedded.postgres import PostgresServer, find_wheel_programs
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database
from flusher.postgres.migrate import migrate
from flusher.postgres.write import SessionWriter
from tests.conftest import Databases
from tests.events import batch_of, upgrade
from tests.instant import MONTH, UTC
from tests.integration.keeping import A_SITE as SITE
from tests.integration.keeping import keeper_of, visit
from tests.live_counts import check_views
from tests.moved_clock import moved_environment, needs_moved_clock
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres, Servers, flavours
from tests.system import eventually

OVER = MONTH.plus(-2)
PROGRAMS = sorted({flavour.postgres_programs or find_wheel_programs() for flavour in flavours()})
FIVE_YEARS_SECONDS = 5 * 366 * 86_400
_SECONDS = 60.0


def run(program: Path, *arguments: str) -> bytes:
    done = subprocess.run([program, *arguments], capture_output=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=PROGRAMS, ids=lambda programs: programs.parent.name)
def two_servers(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """The old one and the new one, of one release each."""
    with ExitStack() as stack:
        settings = POSTGRES_SETTINGS | {"wal_level": "logical"}
        servers = [
            CopiedPostgres(tmp_path / name, bin_dir=request.param, settings=settings)
            for name in ("old", "new")
        ]
        for server in servers:
            stack.enter_context(server)
        yield servers[0], servers[1]


async def assert_right(dsn: str) -> list[asyncpg.Record]:
    async with Database(dsn) as database, database.connection() as connection:
        assert await check_counts(database) == []
        return await check_views(connection)


async def test_after_a_move_by_logical_replication_the_counts_go_on(
    two_servers: tuple[PostgresServer, PostgresServer],
) -> None:
    """Blue and green, as docs/operations.md says: rows are replicated, and partitions are not. A
    month is closed and another comes to be while both are there; then the flusher moves.
    """
    old, new = two_servers
    blue = await asyncpg.connect(old.dsn())
    await migrate(blue, UTC)
    sessions = [visit(month, person) for month in (OVER, MONTH) for person in range(1, 20)]
    async with Database(old.dsn()) as database, Database(old.dsn()) as other:
        writer, keeper = SessionWriter(database, UTC), keeper_of(other, "hour")
        await writer.write(batch_of(*sessions))
        await keeper.fold()
        pg_dump = old.programs / "pg_dump"
        schema = run(pg_dump, "--schema-only", "--no-publications", old.dsn())
        load(new, new.dsn(), b"CREATE ROLE impact_reader;" + schema)
        green = await asyncpg.connect(new.dsn())
        await blue.execute("CREATE PUBLICATION move FOR ALL TABLES")
        await green.execute(f"CREATE SUBSCRIPTION move CONNECTION '{old.dsn()}' PUBLICATION move")
        upgrades = [upgrade(each.id, site=SITE) for each in sessions[::3]]
        await writer.write(batch_of(*upgrades, visit(OVER, 30), visit(MONTH, 30)))
        done = await keeper.run_once()
        assert done.closed == (OVER.first_day,), "its sessions are written anew"
        await writer.write(batch_of(visit(OVER, 31), visit(MONTH, 31)))
        await keeper.fold()

        async def is_there() -> bool:
            """As much as there is, in all tables."""
            return await contents(green) == await contents(blue)

        await eventually(is_there, seconds=_SECONDS)
    before = await assert_right(old.dsn())
    await green.execute("DROP SUBSCRIPTION move")
    await migrate(green, UTC)
    async with Database(new.dsn()) as database, Database(new.dsn()) as other:
        assert await assert_right(new.dsn()) == before
        writer, keeper = SessionWriter(database, UTC), keeper_of(other)
        await keeper.run_once()
        again = [upgrade(each.id, site=SITE) for each in sessions[1::3]]
        await writer.write(
            batch_of(*sessions, *again, visit(OVER, 40), visit(MONTH, 40), visit(MONTH, 30))
        )
        await assert_right(new.dsn())
        await keeper.run_once()
        await assert_right(new.dsn())
    for connection in (blue, green):
        await connection.close()


async def contents(connection: asyncpg.Connection) -> dict[str, object]:
    """How many rows each table has, and what they are in short."""
    tables = await connection.fetch(
        "SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relkind IN ('r', 'p') "
        "AND NOT c.relispartition AND c.relnamespace IN ('public'::regnamespace, "
        "'flusher'::regnamespace)"
    )
    return {
        table["name"]: await connection.fetchval(
            f"SELECT (count(*), coalesce(sum(hashtextextended(t::text, 0)), 0))::text "
            f"FROM {table['name']} t"
        )
        for table in tables
    }


def load(server: PostgresServer, dsn: str, sql: bytes) -> None:
    done = subprocess.run(
        [str(server.programs / "psql"), "--no-psqlrc", "--set=ON_ERROR_STOP=1", dsn],
        input=sql,
        capture_output=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def test_a_dump_that_is_taken_while_flushers_write_is_restored_with_its_counts_right(
    databases: Databases, embedded_servers: Servers, dsn: str, connection: asyncpg.Connection
) -> None:
    stop = asyncio.Event()
    server = embedded_servers.postgres

    async def write() -> None:
        async with Database(dsn) as database, Database(dsn) as other:
            writer, keeper = SessionWriter(database, UTC), keeper_of(other)
            while not stop.is_set():
                starts = [
                    visit(month, person) for month in (OVER, MONTH) for person in range(1, 20)
                ]
                await writer.write(batch_of(*starts))
                await writer.write(batch_of(*(upgrade(s.id, site=SITE) for s in starts[::3])))
                await keeper.fold()

    async with asyncio.TaskGroup() as writing:
        writing.create_task(write())
        are_stored = "SELECT count(*) > 100 FROM sessions"
        await eventually(lambda: connection.fetchval(are_stored), seconds=_SECONDS)
        dump = await asyncio.to_thread(run, server.programs / "pg_dump", dsn)
        stop.set()
    restored = await databases.create_empty("restored")
    await asyncio.to_thread(load, server, restored, dump)
    assert await assert_right(restored)
    again = await asyncpg.connect(restored)
    await migrate(again, UTC)
    await again.close()
    async with Database(restored) as database:
        await SessionWriter(database, UTC).write(batch_of(visit(OVER, 50), visit(MONTH, 50)))
    await assert_right(restored)


@needs_moved_clock
async def test_a_server_whose_clock_is_five_years_ahead_has_nothing_dropped(tmp_path: Path) -> None:
    """All months were gone within a second. By that clock all are over, and closed."""
    months = [MONTH.plus(-number) for number in range(5)]
    clock = moved_environment(FIVE_YEARS_SECONDS)
    with CopiedPostgres(tmp_path / "ahead", settings=POSTGRES_SETTINGS, env=clock) as server:
        connection = await asyncpg.connect(server.dsn())
        await migrate(connection, UTC)
        year = await connection.fetchval("SELECT extract(year FROM now())::integer")
        assert year >= MONTH.year + 5
        async with Database(server.dsn()) as database, Database(server.dsn()) as other:
            await SessionWriter(database, UTC).write(
                batch_of(*(visit(month, person) for month in months for person in (1, 2)))
            )
            for kept in (12, 36, 2):
                keeper = keeper_of(other, kept_months=kept)
                dropped = {month for _ in range(3) for month in (await keeper.run_once()).dropped}
                # As many are kept as are to be, from the newest session on.
                wanted = {month.first_day for month in months if month < MONTH.plus(-kept)}
                assert dropped == wanted
            await SessionWriter(database, UTC).write(batch_of(visit(MONTH, 3)))
            assert await check_counts(database) == []
        assert await connection.fetchval("SELECT count(*) FROM sessions") == 3 * 2 + 1
        gone = "SELECT count(*) FROM flusher.months WHERE dropped_at IS NOT NULL"
        assert await connection.fetchval(gone) == 2
        rows = await connection.fetch("SELECT sessions FROM monthly_impact ORDER BY month")
        assert [row["sessions"] for row in rows] == [2, 2, 2, 2, 3]
        await connection.close()
