"""The settings of `make run`, from the environment, and the ports of its processes."""

from collections.abc import Mapping
from dataclasses import dataclass

from contract import settings as names
from contract.errors import Misconfigured
from embedded.errors import CannotRun
from embedded.ports import find_free_port, is_free

# The usual admin port of each process, in the order of the Procfile.
_ADMIN_PORTS = {"web": 9100, "worker": 9101, "clock": 9102}


@dataclass(frozen=True)
class RunSettings:
    """None: not set."""

    host: str
    port: int
    admin_host: str
    admin_port: int | None
    redis_url: str | None
    database_url: str | None

    @property
    def collector_url(self) -> str:
        return _url(self.host, self.port)

    def readiness_url(self, admin_port: int) -> str:
        return f"{_url(self.admin_host, admin_port)}/readyz"


def read_run_settings(environment: Mapping[str, str]) -> RunSettings:
    """Raises Misconfigured if a setting is wrong."""
    admin_port = names.admin_port(0).read(environment)
    return RunSettings(
        # The collector's default is 0.0.0.0. But the demo gives its user's token to everybody.
        host=environment.get("HOST", "") or "127.0.0.1",
        port=names.PORT.read(environment),
        admin_host=names.ADMIN_HOST.read(environment),
        admin_port=admin_port if environment.get("ADMIN_PORT") else None,
        redis_url=environment.get("REDIS_URL") or None,
        database_url=environment.get("DATABASE_URL") or None,
    )


def settle_ports(settings: RunSettings) -> dict[str, int]:
    """The ADMIN_PORT of each process. Raises CannotRun if a port that is set is taken, and
    Misconfigured if an address is not one of this machine.

    If ADMIN_PORT is set, the three processes get it and the two ports after it. Otherwise they get
    their usual ports, or other ones if these are taken.
    """
    _check_port("HOST", settings.host, "PORT", settings.port)
    host, first = settings.admin_host, settings.admin_port
    if first == 0:
        return dict.fromkeys(_ADMIN_PORTS, 0)
    if first is not None:
        ports = {process: first + number for number, process in enumerate(_ADMIN_PORTS)}
        for port in ports.values():
            _check_port("ADMIN_HOST", host, "ADMIN_PORT", port)
        return ports
    return {
        process: port if _is_free("ADMIN_HOST", host, "ADMIN_PORT", port) else find_free_port()
        for process, port in _ADMIN_PORTS.items()
    }


def _url(host: str, port: int) -> str:
    near = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


def _check_port(host_name: str, host: str, port_name: str, port: int) -> None:
    if not _is_free(host_name, host, port_name, port):
        raise CannotRun(
            f"{port_name}: port {port} is taken by another program: "
            f"try {port_name}={port + 1} make run"
        )


def _is_free(host_name: str, host: str, port_name: str, port: int) -> bool:
    try:
        return is_free(host, port)
    except (OSError, OverflowError) as error:
        if isinstance(error, PermissionError):
            raise CannotRun(
                f"{port_name}={port} needs more rights than we have: try {port_name}=8001 make run"
            ) from error
        problem = f"{host} is no address of this machine ({error})"
        raise Misconfigured(host_name, problem, f"{host_name}=127.0.0.1 make run") from error
