"""Runs everything on one machine: the servers, the migration, the processes of the Procfile."""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from contract.calendar import SECOND_US
from embedded.banner import compose_banner, wait_until_ready
from embedded.commands import DEMO_ALGORITHM, sign_token
from embedded.data_folder import DataFolder, RunningSystem
from embedded.errors import CannotRun
from embedded.ports import is_free
from embedded.postgres import PostgresServer
from embedded.procfile import STOP_SIGNALS, read_procfile, run_rows
from embedded.run_settings import RunSettings, read_run_settings, settle_ports
from embedded.terminal import Terminal
from embedded.valkey import ValkeyServer
from runtime.clock import wall_clock

# One above the usual ports, which other servers of the machine may have.
_VALKEY_PORT = 6380
_POSTGRES_PORT = 5433
_RELEASE = "release"
_DEMO_MINUTES = 30 * 24 * 60
_KEY_BYTES = 32


def run(data: DataFolder) -> None:
    """Runs until a signal comes, then stops the processes, and after them the servers.

    Raises CannotRun or ServerDidNotStart if it can't start, or if a process ended by itself.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        try:
            _run(data, Terminal(), stack)
        finally:
            # Nothing may interrupt the stop of the servers, which is short.
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN)


def _run(data: DataFolder, terminal: Terminal, stack: ExitStack) -> None:
    settings = read_run_settings(os.environ)
    rows = read_procfile(Path("Procfile"))
    stack.enter_context(data.reserved())
    admin_ports = settle_ports(settings)
    system = _start_servers(settings, data, terminal, stack)
    environments = {
        name: child_environment(os.environ, settings, system, admin_ports.get(name))
        for name in rows
    }
    release = rows.pop(_RELEASE, None)
    if release is not None and not _run_release(release, environments, terminal):
        return
    stack.enter_context(data.announced(system))
    pages = [
        settings.readiness_url(port) for name, port in admin_ports.items() if name in rows and port
    ]
    banner = compose_banner(settings, system)
    asyncio.run(_run_processes(rows, environments, settings, pages, banner, terminal))


def _start_servers(
    settings: RunSettings, data: DataFolder, terminal: Terminal, stack: ExitStack
) -> RunningSystem:
    redis_url = settings.redis_url
    if redis_url is None:
        valkey = stack.enter_context(ValkeyServer(data.valkey, port=_free_or_0(_VALKEY_PORT)))
        redis_url = valkey.url
        terminal.say(f"Valkey runs on port {valkey.port}, its data in {data.valkey}")
    database_url = settings.database_url
    if database_url is None:
        postgres = stack.enter_context(
            PostgresServer(data.postgres, port=_free_or_0(_POSTGRES_PORT))
        )
        database_url = postgres.dsn()
        terminal.say(f"PostgreSQL runs on port {postgres.port}, its data in {data.postgres}")
    return RunningSystem(redis_url, database_url, secrets.token_hex(_KEY_BYTES))


def _free_or_0(port: int) -> int:
    """The port if it is free; 0: the server finds another one."""
    return port if is_free("127.0.0.1", port) else 0


def child_environment(
    own: Mapping[str, str], settings: RunSettings, system: RunningSystem, admin_port: int | None
) -> dict[str, str]:
    """The environment of a process of the Procfile."""
    programs = str(Path(sys.executable).parent)
    environment = dict(own) | {
        "PATH": os.pathsep.join([programs, own.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "REDIS_URL": system.redis_url,
        "DATABASE_URL": system.database_url,
        **_keys(own, system.jwt_key),
        "HOST": settings.host,
        "TRUSTED_PROXIES": own.get("TRUSTED_PROXIES", "127.0.0.1,::1"),
        "PORT": str(settings.port),
        # With few lines, the banner stays on the screen.
        "LOG_LEVEL": own.get("LOG_LEVEL") or "warning",
        "DEMO": "1",
        "DEMO_TOKEN": sign_token(
            key=system.jwt_key,
            user="demo-user",
            role=None,
            now=wall_clock() // SECOND_US,
            minutes=_DEMO_MINUTES,
        ),
    }
    if admin_port is not None:
        environment["ADMIN_PORT"] = str(admin_port)
    return environment


def _keys(own: Mapping[str, str], demo_key: str) -> dict[str, str]:
    """The collector's keys: the demo key, which signs all tokens here, and those that are set."""
    if not own.get("JWT_KEY"):
        return {"JWT_KEY": demo_key, "JWT_ALGORITHMS": DEMO_ALGORITHM}
    algorithms = [word.strip() for word in own.get("JWT_ALGORITHMS", "").split(",")]
    return {
        "JWT_KEY": f"{own['JWT_KEY']}\n{demo_key}",
        "JWT_ALGORITHMS": ",".join(filter(None, dict.fromkeys([*algorithms, DEMO_ALGORITHM]))),
    }


def _run_release(
    command: str, environments: Mapping[str, Mapping[str, str]], terminal: Terminal
) -> bool:
    """Runs the migration. False: a signal ended it; CannotRun: it failed."""
    ended = asyncio.run(run_rows({_RELEASE: command}, environments, terminal))
    if ended is None:
        return False
    if ended.status != 0:
        raise CannotRun(
            f"{_RELEASE} ({command}) failed with status {ended.status}; its output is above"
        )
    return True


async def _run_processes(
    rows: Mapping[str, str],
    environments: Mapping[str, Mapping[str, str]],
    settings: RunSettings,
    pages: Sequence[str],
    banner: str,
    terminal: Terminal,
) -> None:
    """Runs them until a signal comes; CannotRun: one ended by itself."""

    async def show_banner() -> None:
        await wait_until_ready(settings.collector_url, pages)
        terminal.write(banner)

    showing = asyncio.create_task(show_banner())
    ended = await run_rows(rows, environments, terminal)
    showing.cancel()
    if ended is not None:
        raise CannotRun(
            f"{ended.name} ({rows[ended.name]}) ended by itself with status {ended.status}, so "
            "everything was stopped; its output is above"
        )
