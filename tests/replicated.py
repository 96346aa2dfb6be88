"""A PostgreSQL with a streaming replica, as private servers."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from embedded.launch import account_for
from embedded.postgres import PostgresServer, find_wheel_programs
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres, execute
from tests.system import eventually

_SECONDS = 60.0
_SETTINGS = POSTGRES_SETTINGS | {"wal_level": "replica", "hot_standby": "on"}


@dataclass(frozen=True, slots=True)
class Replicated:
    """A primary and its replica. A commit waits for the replica (synchronous replication)."""

    primary: PostgresServer
    replica: PostgresServer

    @property
    def dsn(self) -> str:
        """DATABASE_URL: both hosts."""
        hosts = ",".join(f"127.0.0.1:{s.port}" for s in (self.primary, self.replica))
        return f"postgresql://postgres@{hosts}/impact"

    async def promote(self) -> None:
        """Makes the replica a primary."""
        connection = await asyncpg.connect(self.replica.dsn())
        assert await connection.fetchval("SELECT pg_promote(true, 60)")
        await connection.close()


@asynccontextmanager
async def replicated(folder: Path) -> AsyncIterator[Replicated]:
    """Both, until the end of the block."""
    primary, replica = (
        CopiedPostgres(folder / name, settings=_SETTINGS) for name in ("primary", "replica")
    )
    with ExitStack() as stack:
        stack.callback(primary.kill)
        await asyncio.to_thread(primary.start)
        await asyncio.to_thread(_copy, primary, replica)
        stack.callback(replica.kill)
        await asyncio.to_thread(replica.start)
        await execute(
            primary.dsn(),
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
            "SELECT pg_reload_conf()",
        )
        connection = await asyncpg.connect(primary.dsn())
        state = "SELECT sync_state FROM pg_stat_replication"
        await eventually(lambda: connection.fetchval(state), lambda state: state == "sync")
        await connection.close()
        yield Replicated(primary, replica)


def _copy(primary: PostgresServer, replica: PostgresServer) -> None:
    cluster = replica.data_dir / "cluster"
    replica.data_dir.mkdir(parents=True)
    account = account_for(replica.data_dir)
    subprocess.run(
        [
            str(find_wheel_programs() / "pg_basebackup"),
            f"--dbname={primary.dsn('postgres')}",
            f"--pgdata={cluster}",
            *("--checkpoint=fast", "--no-sync", "--wal-method=stream", "--write-recovery-conf"),
        ],
        check=True,
        capture_output=True,
        timeout=_SECONDS,
    )
    if account is not None:
        for path in [cluster, *cluster.rglob("*")]:
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
        shutil.chown(replica.data_dir, account.uid, account.gid)
