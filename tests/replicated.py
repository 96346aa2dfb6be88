"""A PostgreSQL with a streaming replica, as private servers."""

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg

from embedded.launch import account_for
from embedded.postgres import PostgresServer, find_wheel_programs
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres
from tests.system import eventually

_SECONDS = 60.0
_SETTINGS = POSTGRES_SETTINGS | {"wal_level": "replica", "hot_standby": "on"}


class Replicated:
    """A primary and its replica. A commit waits for the replica (synchronous replication)."""

    def __init__(self, folder: Path, *, bin_dir: Path | None = None) -> None:
        self._bin_dir = find_wheel_programs() if bin_dir is None else bin_dir
        self.primary = self._server(folder / "primary")
        self.replica = self._server(folder / "replica")

    @property
    def dsn(self) -> str:
        """DATABASE_URL: both hosts."""
        hosts = ",".join(f"127.0.0.1:{s.port}" for s in (self.primary, self.replica))
        return f"postgresql://postgres@{hosts}/impact"

    def __enter__(self) -> Self:
        self.primary.start()
        try:
            self._copy()
            self.replica.start()
        except BaseException:
            self.primary.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.replica.kill()
        self.primary.kill()

    async def form(self) -> None:
        """From here on a commit waits for the replica."""
        connection = await asyncpg.connect(self.primary.dsn())
        try:
            await connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await connection.execute("SELECT pg_reload_conf()")

            async def state() -> str | None:
                state: str | None = await connection.fetchval(
                    "SELECT sync_state FROM pg_stat_replication"
                )
                return state

            await eventually(state, lambda state: state == "sync", _SECONDS)
        finally:
            await connection.close()

    async def promote(self) -> None:
        """Makes the replica a primary."""
        connection = await asyncpg.connect(self.replica.dsn())
        try:
            assert await connection.fetchval("SELECT pg_promote(true, 60)")
        finally:
            await connection.close()

    def _server(self, folder: Path) -> PostgresServer:
        return CopiedPostgres(folder, bin_dir=self._bin_dir, settings=_SETTINGS)

    def _copy(self) -> None:
        cluster = self.replica.data_dir / "cluster"
        self.replica.data_dir.mkdir(parents=True)
        account = account_for(self.replica.data_dir)
        subprocess.run(
            [
                str(self._bin_dir / "pg_basebackup"),
                f"--dbname={self.primary.dsn('postgres')}",
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
            shutil.chown(self.replica.data_dir, account.uid, account.gid)
