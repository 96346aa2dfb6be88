"""A reporting database over several systems, made as `docs/reporting.md` says."""

import os
import re
import subprocess

from embedded.postgres import PostgresServer
from tests.servers import execute
from tests.system import ROOT

_PAGE = (ROOT / "docs/reporting.md").read_text()
_ROLE, BEHIND = re.findall(r"^```sql\n(.*?)```", _PAGE, re.DOTALL | re.MULTILINE)
_COMMANDS = re.findall(r"```sh\n(.*?)```", _PAGE, re.DOTALL)[0]
_TRUST_THE_SUPERUSER = """\
host all,replication postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""


async def ask_for_passwords(server: PostgresServer) -> None:
    """Requires a password of every role but the superuser."""
    (server.data_dir / "cluster" / "pg_hba.conf").write_text(_TRUST_THE_SUPERUSER)
    await execute(server.dsn(), "SELECT pg_reload_conf()")


async def admit_reporting(server: PostgresServer) -> None:
    """Creates the role in a system's database; it needs its password."""
    await ask_for_passwords(server)
    await execute(server.dsn(), _ROLE)


def unite(reporting: PostgresServer, *, north: PostgresServer, south: PostgresServer) -> str:
    """The DSN of a new database on a server, which shows both systems.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    run_again(reporting, _COMMANDS, north=north, south=south)
    return reporting.dsn("reporting")


def run_again(
    reporting: PostgresServer, commands: str = "", **systems: PostgresServer
) -> subprocess.CompletedProcess[str]:
    """Runs commands of the page, or its line of each system that is given.

    Raises:
        subprocess.CalledProcessError: one failed.
    """
    lines = _COMMANDS.splitlines(keepends=True)
    commands = commands or "".join(
        line for line in lines if "export" in line or any(name in line for name in systems)
    )
    for name, address in (("north", "10.0.1.5"), ("south", "10.0.2.5")):
        if name in systems:
            there = f"host={address} -v port=5432"
            here = f"host=127.0.0.1 -v port={systems[name].port}"
            assert there in commands
            commands = commands.replace(there, here)
    path = f"{reporting.programs}:{os.environ['PATH']}"
    as_superuser = {"PGHOST": "127.0.0.1", "PGPORT": str(reporting.port), "PGUSER": "postgres"}
    return subprocess.run(
        ["/bin/sh", "-euc", commands],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        env=os.environ | as_superuser | {"PATH": path},
    )
