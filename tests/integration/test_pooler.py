"""Behind pgbouncer: by session all is as without it; by transaction it is refused at once."""

import asyncio
import itertools
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final

import asyncpg
import pytest

from contract.errors import Misconfigured
from embedded.launch import Account, account_for
from embedded.postgres import PostgresServer
from embedded.server_process import ServerProcess
from flusher.postgres.database import Database, connect
from flusher.postgres.write import SessionWriter
from tests.events import batch_of, start
from tests.instant import UTC
from tests.system import fail_in_one_line, run_successfully

# Debian puts it where only root looks.
PROGRAM: Final = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="pgbouncer is not installed: not tested behind it"
)
# pgbouncer itself hands a client's encoding on.
ALL_SETTINGS = (
    "SELECT name, setting FROM pg_settings WHERE source = 'session' AND name <> 'client_encoding'"
)


class PgBouncer(ServerProcess):
    """Lends the server's connections by session, transaction or statement, `size` at the most."""

    name: ClassVar[str] = "pgbouncer"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    def __init__(self, data_dir: Path, postgres: PostgresServer, mode: str, size: int) -> None:
        super().__init__(data_dir)
        self._postgres = postgres
        self._mode = mode
        self._size = size

    def dsn(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/impact"

    def _account(self) -> Account | None:
        return account_for(self.data_dir)

    def _prepare(self, lock: int) -> None:  # noqa: ARG002 - it runs no other program
        account = self._account()
        if account is not None:
            os.chown(self.data_dir, account.uid, account.gid)

    def _command(self) -> Sequence[str]:
        users = self.data_dir / "users.txt"
        users.write_text('"postgres" ""\n')
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": users,
            "pool_mode": self._mode,
            "default_pool_size": self._size,
        }
        lines = [
            "[databases]",
            f"* = host=127.0.0.1 port={self._postgres.port}",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in settings.items()),
        ]
        configuration = self.data_dir / "pgbouncer.ini"
        configuration.write_text("\n".join([*lines, ""]))
        return [PROGRAM or "pgbouncer", str(configuration)]

    def _is_ready(self, pid: int) -> bool:  # noqa: ARG002 - the port was free a moment ago
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False


MakePool = Callable[..., PgBouncer]


@pytest.fixture
def pool(postgres: PostgresServer, tmp_path: Path, stack: ExitStack) -> MakePool:
    numbers = itertools.count()

    def make(mode: str, size: int = 20) -> PgBouncer:
        pool = PgBouncer(tmp_path / f"{mode}-{next(numbers)}", postgres, mode, size)
        stack.callback(pool.kill)
        return pool.start()

    return make


async def test_by_session_everything_works_with_its_guards_and_time_outs(
    pool: MakePool, postgres: PostgresServer
) -> None:
    dsn = pool("session").dsn()
    await run_successfully("flusher", "migrate", DATABASE_URL=dsn)
    direct = await connect(postgres.dsn(), 30)
    pooled = await connect(dsn, 30)
    settings = {row["name"]: row["setting"] for row in await direct.fetch(ALL_SETTINGS)}
    assert settings["enable_seqscan"] == "off"
    assert settings["statement_timeout"] == "30000"
    assert (
        settings.items()
        <= {row["name"]: row["setting"] for row in await pooled.fetch(ALL_SETTINGS)}.items()
    )
    await direct.close()
    await pooled.close()
    async with Database(dsn, 30) as database:
        session = start()
        for _ in range(2):  # copied, and merged
            await SessionWriter(database, UTC).write(batch_of(session))
    # A pool without a second process is no other kind.
    connection = await connect(pool("session", size=1).dsn())
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


@pytest.mark.parametrize(
    ("mode", "size"), [("transaction", 1), ("transaction", 5), ("statement", 5)]
)
async def test_by_transaction_it_is_refused_in_one_line_and_nothing_is_left_there(
    pool: MakePool, postgres: PostgresServer, mode: str, size: int
) -> None:
    dsn = pool(mode, size).dsn()
    for command in (("migrate",), ("report",)):
        errors = await fail_in_one_line(2, "flusher", *command, DATABASE_URL=dsn)
        assert "DATABASE_URL: leads through a pooler" in errors
        assert "pool_mode = session" in errors
    other = await asyncpg.connect(dsn, statement_cache_size=0)
    if mode == "transaction":
        assert await other.fetch(ALL_SETTINGS) == [], "another client's plans stay its own"
    await other.close()
    server = await asyncpg.connect(postgres.dsn())
    assert await server.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    await server.close()


@asynccontextmanager
async def busy(dsn: str, clients: int) -> AsyncIterator[None]:
    """Others use the pool, too, as fast as they can."""

    async def use() -> None:
        connection = await asyncpg.connect(dsn, statement_cache_size=0)
        try:
            while True:
                async with connection.transaction():
                    await connection.execute("SELECT 1")
        finally:
            connection.terminate()

    tasks = [asyncio.create_task(use()) for _ in range(clients)]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_by_transaction_it_is_refused_among_many_clients_too(pool: MakePool) -> None:
    dsn = pool("transaction", size=5).dsn()
    async with busy(dsn, 8):
        for _ in range(40):
            with pytest.raises(Misconfigured, match="pool_mode = session"):
                await connect(dsn)
