"""A pgbouncer before a PostgreSQL, for tests: Debian's, where it is installed."""

import os
import shutil
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

from embedded.launch import Account, account_for
from embedded.postgres import PostgresServer
from embedded.server_process import ServerProcess

# Debian puts it where only root looks.
PROGRAM: Final = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class PgBouncer(ServerProcess):
    """Lends the server's connections by session, transaction or statement, `size` at the most."""

    name: ClassVar[str] = "pgbouncer"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    def __init__(
        self, data_dir: Path, postgres: PostgresServer, mode: str, *, size: int = 20
    ) -> None:
        super().__init__(data_dir)
        self._postgres = postgres
        self._mode = mode
        self._size = size

    def dsn(self, database: str = "impact", role: str = "postgres") -> str:
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}"

    def _programs(self) -> Sequence[Path]:
        return [Path(PROGRAM or "pgbouncer")]

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
        return [str(*self._programs()), str(configuration)]

    def _is_ready(self, pid: int) -> bool:  # noqa: ARG002 - the port was free a moment ago
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False
