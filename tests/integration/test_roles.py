"""`migrate`: the schema that it makes, and who may run it: roles that are no superuser, what a
dump lost, locks, zones.
"""

import asyncio
import itertools
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from contract.errors import Retry
from embedded.postgres import PostgresServer
from flusher.postgres.database import Database, connect
from flusher.postgres.migrate import apply_files, migrate, migrations
from flusher.postgres.write import SessionWriter
from tests.conftest import Databases
from tests.events import batch_of, start
from tests.instant import MONTH, UTC
from tests.servers import Servers, execute
from tests.system import ROOT, fail_in_one_line, run_command

# As docs/operations.md names them.
RIGHTS = (
    "GRANT CREATE ON DATABASE {database} TO {role}",
    "GRANT CREATE ON SCHEMA public TO {role}",
)
READABLE = ("sessions", "monthly_impact", "daily_impact", "data_quality")


class Server:
    """A server, and new databases in it."""

    def __init__(self, postgres: PostgresServer) -> None:
        self.postgres = postgres
        self._numbers = itertools.count()

    async def execute(self, *commands: str, database: str = "postgres") -> None:
        await execute(self.postgres.dsn(database), *commands)

    async def database_for(self, role: str, *rights: str, create_role: bool) -> str:
        """The DSN of a new database, as a new role with these rights."""
        database = f"theirs_{next(self._numbers)}"
        may = "CREATEROLE" if create_role else "NOCREATEROLE"
        await self.execute(f"CREATE DATABASE {database}", f'CREATE ROLE "{role}" LOGIN {may}')
        granted = [right.format(database=database, role=f'"{role}"') for right in rights]
        await self.execute(*granted, database=database)
        return self.postgres.dsn(database).replace("postgres@", f"{role}@")

    def as_superuser(self, dsn: str) -> str:
        return self.postgres.dsn(dsn.rpartition("/")[2])


@pytest.fixture
async def server(postgres: PostgresServer) -> AsyncIterator[Server]:
    """Without any role or database but its own, at the end as at the beginning."""
    yield Server(postgres)
    connection = await asyncpg.connect(postgres.dsn("postgres"))
    for row in await connection.fetch(
        "SELECT datname FROM pg_database WHERE datname LIKE 'theirs%'"
    ):
        await connection.execute(f"DROP DATABASE {row['datname']} WITH (FORCE)")
    for row in await connection.fetch(
        "SELECT rolname FROM pg_roles WHERE rolname <> 'postgres' AND rolname NOT LIKE 'pg\\_%'"
    ):
        await connection.execute(f'DROP ROLE "{row["rolname"]}"')
    await connection.close()


async def migrated(dsn: str) -> tuple[str, str]:
    """What a `migrate` that succeeds writes to its two outputs."""
    code, output, errors = await run_command("flusher", "migrate", DATABASE_URL=dsn)
    assert code == 0, errors
    return output, errors


async def can_read(dsn: str) -> list[str]:
    """What impact_reader may read."""
    connection = await asyncpg.connect(dsn)
    found = [
        name
        for name in READABLE
        if await connection.fetchval(
            "SELECT has_schema_privilege('impact_reader', 'public', 'USAGE') "
            "AND has_table_privilege('impact_reader', $1, 'SELECT')",
            f"public.{name}",
        )
    ]
    await connection.close()
    return found


@pytest.mark.parametrize(
    ("role", "finds_reader", "own_schema"),
    [
        pytest.param("keeper", False, False, id="makes the reader"),
        pytest.param("keeper", True, False, id="finds the reader"),
        pytest.param("flusher", False, False, id="is named like our schema"),
        pytest.param("keeper", False, True, id="has a schema of its name"),
    ],
)
async def test_an_owner_with_the_rights_that_the_readme_names_migrates(
    server: Server, role: str, *, finds_reader: bool, own_schema: bool
) -> None:
    """The server looks into the schema of a role's name first, and makes things there."""
    dsn = await server.database_for(role, *RIGHTS, create_role=not finds_reader)
    if finds_reader:
        await server.execute("CREATE ROLE impact_reader NOLOGIN")
    if own_schema:
        create = f"CREATE SCHEMA {role} AUTHORIZATION {role}"
        await server.execute(create, database=dsn.rpartition("/")[2])
    await migrated(dsn)
    assert await can_read(server.as_superuser(dsn)) == [*READABLE]
    async with Database(dsn) as database:
        await SessionWriter(database, UTC).write(batch_of(start()))
        async with database.connection() as connection:
            found = await connection.fetch(
                "SELECT relnamespace::regnamespace::text AS schema FROM pg_class "
                "WHERE relname IN ('sessions', 'monthly_impact')"
            )
            assert await connection.fetchval("SELECT sum(sessions) FROM monthly_impact") == 1
    assert [row["schema"] for row in found] == ["public"] * 2
    output, _ = await migrated(dsn)
    assert output == "the database is up to date\n"


def test_the_handbook_names_these_rights() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    for right in RIGHTS:
        assert right.format(database="impact", role="impact_owner") in text
    assert "CREATE ROLE impact_reader NOLOGIN" in text


@pytest.mark.parametrize(
    ("rights", "missing"),
    [(RIGHTS[:1], "schema public"), (RIGHTS[1:], "database"), (RIGHTS, "role")],
    ids=["no schema", "no database", "no role"],
)
async def test_a_right_that_is_missing_is_one_line(
    server: Server, rights: tuple[str, ...], missing: str
) -> None:
    """And half a schema is nowhere: with the right it goes on from nothing."""
    dsn = await server.database_for("keeper", *rights, create_role=False)
    errors = await fail_in_one_line(2, "flusher", "migrate", DATABASE_URL=dsn)
    assert "CREATE on the database and on its schema public, and CREATEROLE" in errors
    assert f"permission denied {'to create' if missing == 'role' else 'for'} {missing}" in errors
    assert "has `python -m flusher migrate` been run" not in errors
    await migrated(server.as_superuser(dsn))


async def test_a_database_without_its_public_schema_is_one_line(server: Server) -> None:
    dsn = await server.database_for("keeper", create_role=True)
    await server.execute("DROP SCHEMA public", database=dsn.rpartition("/")[2])
    dsn = server.as_superuser(dsn)
    errors = await fail_in_one_line(2, "flusher", "migrate", DATABASE_URL=dsn)
    assert 'schema "public" does not exist; run `CREATE SCHEMA public` there' in errors


async def test_every_migrate_mends_roles_grants_and_settings(server: Server) -> None:
    dsn = await server.database_for("keeper", *RIGHTS, create_role=True)
    database = dsn.rpartition("/")[2]
    await server.execute(f"ALTER DATABASE {database} OWNER TO keeper")
    await migrated(dsn)
    await server.execute("DROP OWNED BY impact_reader", database=database)
    await server.execute(
        "DROP ROLE impact_reader",
        f"ALTER DATABASE {database} RESET jit",
        "CREATE ROLE impact_flusher LOGIN",
    )
    output, errors = await migrated(dsn)
    assert (output, errors) == ("the database is up to date\n", "")
    assert await can_read(dsn) == [*READABLE]
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT current_setting('jit')") == "off"
    not_granted = await connection.fetch(
        "SELECT relname FROM pg_class "
        "WHERE relnamespace = 'flusher'::regnamespace AND relkind = 'r' AND NOT relispartition "
        "AND NOT has_table_privilege('impact_flusher', oid, 'INSERT')"
    )
    assert [row["relname"] for row in not_granted] == ["impact_migrations"]
    await connection.close()
    async with Database(dsn.replace("keeper@", "impact_flusher@")) as flusher:
        await SessionWriter(flusher, UTC).write(batch_of(start()))


async def test_what_only_others_may_mend_is_said_with_the_command_that_mends_it(
    server: Server,
) -> None:
    dsn = await server.database_for("keeper", *RIGHTS, create_role=True)
    database = dsn.rpartition("/")[2]
    await server.execute("REVOKE USAGE ON SCHEMA public FROM PUBLIC", database=database)
    await server.execute("GRANT USAGE ON SCHEMA public TO keeper", database=database)
    _, errors = await migrated(dsn)
    commands = [
        "GRANT USAGE ON SCHEMA public TO impact_reader",
        f"ALTER DATABASE {database} SET jit = off",
    ]
    for command in commands:
        assert f"to run: {command}\n" in errors
    await server.execute(*commands, database=database)
    _, errors = await migrated(dsn)
    assert errors == ""
    assert await can_read(dsn) == [*READABLE]


@pytest.mark.parametrize(
    "lock",
    [
        "SELECT pg_advisory_xact_lock(hashtextextended('impact-tracking migrate', 0))",
        "LOCK TABLE flusher.state",
    ],
    ids=["another migrate", "a table"],
)
async def test_no_lock_is_waited_for_without_an_end_and_a_word(server: Server, lock: str) -> None:
    dsn = await server.database_for("keeper", *RIGHTS, create_role=True)
    await migrated(dsn)
    said: list[str] = []
    connection = await connect(dsn)
    other = await asyncpg.connect(server.as_superuser(dsn))
    async with other.transaction():
        await other.execute(lock)
        with pytest.raises(Retry, match=r"held a lock that `migrate` needs.*nothing was changed"):
            await migrate(connection, UTC, said.append, patience_seconds=0.2)
    assert [line for line in said if "another `migrate` is at work" in line] == (
        ["another `migrate` is at work: waiting for it, at most 0.2 s"]
        if "advisory" in lock
        else []
    )
    await other.close()
    await migrate(connection, UTC)
    await connection.close()


async def test_every_connection_waits_for_locks_with_an_end(server: Server) -> None:
    """Those of commands, too, whose statements may take as long as they like."""
    for patience in (None, 600.0):
        connection = await connect(server.postgres.dsn(), patience)
        assert await connection.fetchval("SELECT current_setting('lock_timeout')") == "30s"
        idle = "SELECT current_setting('idle_in_transaction_session_timeout')"
        assert await connection.fetchval(idle) == ("1min" if patience is None else "10min")
        await connection.close()


async def test_a_zone_that_the_server_does_not_know_is_a_wrong_setting(
    server: Server, tmp_path: Path
) -> None:
    """As US/Eastern is, where only today's names are installed."""
    zones = Path("/usr/share/zoneinfo")
    (tmp_path / "Former").mkdir()
    (tmp_path / "Former/Name").write_bytes((zones / "America/New_York").read_bytes())
    dsn = await server.database_for("keeper", *RIGHTS, create_role=True)
    errors = await fail_in_one_line(
        2,
        *("flusher", "migrate"),
        DATABASE_URL=dsn,
        CALENDAR_TIMEZONE="Former/Name",
        PYTHONTZPATH=f"{tmp_path}:{zones}",
    )
    assert errors.startswith("error: CALENDAR_TIMEZONE: PostgreSQL does not know 'Former/Name'")


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


async def test_every_table_and_view_says_what_it_is(connection: asyncpg.Connection) -> None:
    """The columns of what may be read do so in test_metabase.py; those of the rest are explained
    beside their declarations. Other tools add up everything that is a number, and show how a
    comment begins.
    """
    await connection.execute("SELECT flusher.create_month($1)", MONTH.first_day)
    silent = await connection.fetch(
        "SELECT oid::regclass::text FROM pg_class "
        "WHERE relnamespace IN ('public'::regnamespace, 'flusher'::regnamespace) "
        "AND relkind IN ('r', 'p', 'v') AND NOT relispartition AND obj_description(oid) IS NULL"
    )
    assert silent == []
    comments = await connection.fetch(
        "SELECT col_description(attrelid, attnum) FROM pg_attribute "
        "WHERE attrelid = 'monthly_impact'::regclass AND attname LIKE 'unique%'"
    )
    for row in comments:
        assert row[0].startswith("Can't be added up over months or sites: ")
    assert len(comments) == 3
