"""The connection to PostgreSQL: its files, its errors, and which of several hosts is written to."""

import asyncio
import os
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from contract.errors import Retry
from flusher.postgres.database import Database, one_for_each_host
from flusher.postgres.server_checks import examine_postgres
from flusher.postgres.write import SessionWriter, Written
from flusher.rows.batch import Batch
from tests.adversity.breakable_proxy import BreakableProxy
from tests.events import batch_of, start, upgrade
from tests.instant import UTC, clock
from tests.replicated import Replicated, replicated
from tests.servers import Servers
from tests.system import ROOT, eventually, fail_in_one_line, run_successfully


class LateEnd(BreakableProxy):
    """Passes on what the server says, but not that it has hung up."""

    def __init__(self, to_port: int) -> None:
        super().__init__(to_port)
        self.hung_up = asyncio.Event()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(EOFError):
            await super()._pass_on(reader, writer)
        self.hung_up.set()
        await writer.wait_closed()  # the proxy's own end takes the connection away


@pytest.mark.parametrize(("query", "arguments"), [("SELECT 1", []), ("SELECT $1::int", [1])])
async def test_a_connection_that_the_server_ended_meanwhile_is_an_outage(
    embedded_servers: Servers,
    dsn: str,
    connection: asyncpg.Connection,
    query: str,
    arguments: list[int],
) -> None:
    """As after a freeze: its last words have come, and the end of the connection has not."""
    port = embedded_servers.postgres.port
    async with (
        LateEnd(port) as proxy,
        Database(dsn.replace(f":{port}/", f":{proxy.port}/")) as database,
    ):
        async with database.connection() as ours:
            ended = ours.get_server_pid()
        proxy.hung_up.clear()
        await connection.execute("SELECT pg_terminate_backend($1)", ended)
        await proxy.hung_up.wait()
        await connection.execute("SELECT 1")  # a turn of the loop: its last words are read
        with pytest.raises(Retry, match="it has ended the connection"):
            async with database.connection() as ours:
                await ours.fetchval(query, *arguments)
        async with database.connection() as ours:
            assert ours.get_server_pid() != ended
            assert await ours.fetchval("SELECT 1") == 1
            ours.terminate()  # else its end would be waited for


@pytest.mark.parametrize(("zone", "differs"), [("UTC", False), ("Asia/Tokyo", True)])
async def test_a_flusher_with_another_calendar_than_the_databases_says_so(
    dsn: str, zone: str, *, differs: bool
) -> None:
    found = await examine_postgres(dsn, clock, ZoneInfo(zone))
    assert [each.value for each in found if each.setting == "calendar"] == ["UTC"] * differs


@pytest.mark.parametrize(
    ("query", "environment", "named"),
    [
        ("sslmode=require&sslrootcert=/nowhere/x", {}, "?sslrootcert= names /nowhere/x,"),
        ("sslmode=require&sslcrl=/nowhere/x", {}, "?sslcrl= names /nowhere/x,"),
        ("sslmode=require&sslcert=/nowhere/x", {}, "?sslcert= names /nowhere/x,"),
        ("sslmode=require", {"PGSSLROOTCERT": "/nowhere/x"}, "PGSSLROOTCERT names /nowhere/x,"),
        ("sslmode=verify-full", {"HOME": "/nowhere"}, "/nowhere/.postgresql/root.crt"),
        # It is gone on without, and the server speaks of a wrong user or password.
        ("passfile=/nowhere/x", {}, "?passfile= names /nowhere/x,"),
    ],
)
async def test_a_file_that_is_needed_and_not_there_is_named(
    embedded_servers: Servers, query: str, environment: dict[str, str], named: str
) -> None:
    dsn = embedded_servers.postgres.dsn().replace("postgres@", "nobody_there@") + f"?{query}"
    errors = await fail_in_one_line(2, "flusher", "migrate", DATABASE_URL=dsn, **environment)
    assert errors.startswith("error: DATABASE_URL: ")
    assert named in errors


@pytest.mark.parametrize(
    ("option", "named"), [("connect_timeout=5", "connect_timeout"), ("work_mem=much", "work_mem")]
)
async def test_an_option_that_the_server_does_not_know_is_a_wrong_setting_and_no_outage(
    dsn: str, option: str, named: str
) -> None:
    """`connect_timeout` is an option of libpq, but not of asyncpg, which passes it on."""
    url = f"{dsn}{'&' if '?' in dsn else '?'}{option}"
    errors = await fail_in_one_line(2, "flusher", "report", DATABASE_URL=url)
    assert errors.startswith("error: DATABASE_URL: ")
    assert f'"{named}"' in errors


async def test_a_home_of_another_user_is_named_with_its_remedy(dsn: str, tmp_path: Path) -> None:
    """As under ProtectHome=yes."""
    (tmp_path / "home").mkdir(mode=0)
    # Without root's rights, but as a user who may read the project.
    weak = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    process = await create_subprocess_exec(
        *(*weak, sys.executable, "-m", "flusher", "migrate"),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": dsn, "HOME": str(tmp_path / "home")},
        stdout=PIPE,
        stderr=PIPE,
    )
    output, errors = (text.decode() for text in await process.communicate())
    assert (process.returncode, output, errors.count("\n")) == (2, "", 1), errors
    assert f"{tmp_path}/home/.postgresql/" in errors
    assert "Permission denied" in errors
    assert "ProtectHome=tmpfs" in errors


PATIENCE_SECONDS = 1.5


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Replicated]:
    async with replicated(tmp_path) as servers:
        yield servers


@pytest.mark.long
async def test_a_commit_is_worth_a_replica_and_the_one_that_takes_writes_is_found_again(
    servers: Replicated,
) -> None:
    hosts = ",".join(f"127.0.0.1:{s.port}" for s in (servers.replica, servers.primary))
    dsn = f"postgresql://postgres@{hosts}/impact"
    await run_successfully("flusher", "migrate", DATABASE_URL=dsn)
    batch = batch_of(upgrade(b"x" * 16))
    rows = "SELECT count(*) FROM flusher.upgrades"
    primary = await asyncpg.connect(servers.primary.dsn())
    async with Database(dsn, PATIENCE_SECONDS) as database:
        writer = SessionWriter(database, UTC)
        await writer.write(batch_of(start()))
        servers.replica.freeze()
        with pytest.raises(Retry):
            await writer.write(batch)
        # An operator cuts its wait short, or a restart of the primary.
        await primary.execute(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        )
        # Now it is committed on the primary alone, and can be seen.
        await eventually(lambda: primary.fetchval(rows), lambda number: number == 1)
        with pytest.raises(Retry):
            await writer.write(batch)
        servers.replica.thaw()
        assert (await _patiently(writer, batch)).upgrades == 0
        servers.primary.kill()
        await servers.promote()
        replica = await asyncpg.connect(servers.replica.dsn())
        assert await replica.fetchval(rows) == 1
        await replica.close()
        assert (await _patiently(writer, batch)).duplicate_upgrades == 1


async def _patiently(writer: SessionWriter, batch: Batch) -> Written:
    """As the worker does it."""

    async def write() -> Written | None:
        try:
            return await writer.write(batch)
        except Retry:
            return None

    written = await eventually(write)
    assert written is not None
    return written


@pytest.mark.parametrize(
    ("dsn", "hosts"),
    [
        ("postgresql://u@h/d", ["postgresql://u@h/d"]),
        (
            "postgresql://u:p%2C@h1:1,h2:2/d?sslmode=require",
            [
                "postgresql://u:p%2C@h1:1/d?sslmode=require&target_session_attrs=read-write",
                "postgresql://u:p%2C@h2:2/d?sslmode=require&target_session_attrs=read-write",
            ],
        ),
        (
            "postgresql://h1,h2/d?target_session_attrs=any",
            [
                "postgresql://h1/d?target_session_attrs=any",
                "postgresql://h2/d?target_session_attrs=any",
            ],
        ),
    ],
)
def test_hosts_of_a_dsn(dsn: str, hosts: list[str]) -> None:
    assert one_for_each_host(dsn) == hosts
