"""A PostgreSQL with a replica: which of them is written to, and what a commit is worth."""

from collections.abc import AsyncIterator
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from contract.errors import Retry
from flusher.postgres.database import Database, one_for_each_host
from flusher.postgres.write import SessionWriter, Written
from flusher.rows.batch import Batch
from tests.events import batch_of, start, upgrade
from tests.replicated import Replicated
from tests.system import eventually, run_command

UTC = ZoneInfo("UTC")
PATIENCE_SECONDS = 1.5


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Replicated]:
    with Replicated(tmp_path) as servers:
        await servers.form()
        yield servers


@pytest.mark.long
async def test_a_commit_is_worth_a_replica_and_the_one_that_takes_writes_is_found_again(
    servers: Replicated,
) -> None:
    hosts = ",".join(f"127.0.0.1:{s.port}" for s in (servers.replica, servers.primary))
    dsn = f"postgresql://postgres@{hosts}/impact"
    code, _, errors = await run_command("flusher", "migrate", DATABASE_URL=dsn)
    assert code == 0, errors
    batch = batch_of(upgrade(b"x" * 16))
    async with Database(dsn, PATIENCE_SECONDS) as database:
        writer = SessionWriter(database, UTC)
        await writer.write(batch_of(start()))
        servers.replica.freeze()
        with pytest.raises(Retry):
            await writer.write(batch)
        await _cut_waits_short(servers.primary.dsn())
        # Now it is committed on the primary alone, and can be seen.
        await eventually(lambda: _rows(servers.primary.dsn()), lambda rows: rows == 1)
        with pytest.raises(Retry):
            await writer.write(batch)
        servers.replica.thaw()
        assert (await _patiently(writer, batch)).upgrades == 0
        servers.primary.kill()
        await servers.promote()
        assert await _rows(servers.replica.dsn()) == 1
        assert (await _patiently(writer, batch)).duplicate_upgrades == 1


async def _cut_waits_short(dsn: str) -> None:
    """As an operator does, or a restart of the primary."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        )
    finally:
        await connection.close()


async def _rows(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM flusher.upgrades"))
    finally:
        await connection.close()


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
