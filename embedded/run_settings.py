"""What `make run` reads from the environment."""

from collections.abc import Mapping
from dataclasses import dataclass

from embedded.errors import CannotRun
from embedded.ports import is_free

_WRONG_CONFIGURATION = 2
_DEFAULT_PORT = 8000
_HIGHEST_PORT = 65_535
# Each process has an admin listener of its own, in the order of the Procfile.
_ADMIN_PROCESSES = ("web", "worker", "clock")


@dataclass(frozen=True)
class RunSettings:
    """None stands for: not set."""

    host: str
    port: int
    admin_ports: Mapping[str, int]
    redis_url: str | None
    database_url: str | None
    jwt_key: str | None

    @property
    def collector_url(self) -> str:
        """Where this machine reaches the collector."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def read_run_settings(environment: Mapping[str, str]) -> RunSettings:
    """CannotRun, naming the setting, if one is wrong."""
    host = environment.get("HOST", "") or "0.0.0.0"  # the collector's own default
    port = _read_port(environment, "PORT", lowest=1) or _DEFAULT_PORT
    admin_port = _read_port(environment, "ADMIN_PORT", lowest=0)
    # One ADMIN_PORT can't serve three processes of one host: they get it and the two after it.
    admin_ports = {
        process: admin_port + number if admin_port else 0
        for number, process in enumerate(_ADMIN_PROCESSES)
        if admin_port is not None
    }
    return RunSettings(
        host=host,
        port=port,
        admin_ports=admin_ports,
        redis_url=environment.get("REDIS_URL") or None,
        database_url=environment.get("DATABASE_URL") or None,
        jwt_key=environment.get("JWT_KEY") or None,
    )


def check_ports(settings: RunSettings, environment: Mapping[str, str]) -> None:
    """CannotRun if a port the processes will listen on is taken."""
    _check_port("HOST", settings.host, "PORT", settings.port)
    admin_host = environment.get("ADMIN_HOST") or "127.0.0.1"
    for port in settings.admin_ports.values():
        if port:
            _check_port("ADMIN_HOST", admin_host, "ADMIN_PORT", port)


def _read_port(environment: Mapping[str, str], name: str, *, lowest: int) -> int | None:
    text = environment.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not lowest <= int(text) <= _HIGHEST_PORT:
        raise CannotRun(
            f"{name} is {text!r}, not a port from {lowest} to {_HIGHEST_PORT}: "
            f"try {name}=8001 make run",
            exit_status=_WRONG_CONFIGURATION,
        )
    return int(text)


def _check_port(host_name: str, host: str, port_name: str, port: int) -> None:
    try:
        free = is_free(host, port)
    except (OSError, OverflowError) as error:
        if isinstance(error, PermissionError):
            raise CannotRun(
                f"{port_name}={port} needs more rights than we have: try {port_name}=8001 make run"
            ) from error
        raise CannotRun(
            f"{host_name}={host} is no address of this machine ({error}): "
            f"try {host_name}=127.0.0.1 make run",
            exit_status=_WRONG_CONFIGURATION,
        ) from error
    if not free:
        raise CannotRun(
            f"{port_name}: port {port} is taken by another program: "
            f"try {port_name}={port + 1} make run"
        )
