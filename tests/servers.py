"""Which servers the tests run on: the embedded ones always, installed ones when they are there."""

import atexit
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import asyncpg

from embedded.postgres import PostgresServer
from embedded.valkey import ValkeyServer
from tests.moved_clock import suite_is_moved

# Where Debian puts the servers' programs, which are not on the PATH.
_DEBIAN_POSTGRES = Path("/usr/lib/postgresql")

# A cluster for tests is never read again after a crash of the machine.
POSTGRES_SETTINGS = {"fsync": "off", "shared_buffers": "64MB", "max_connections": "60"}


@dataclass(frozen=True, slots=True)
class Flavour:
    """A pair of servers to test on; None stands for the embedded one."""

    name: str
    redis_binary: Path | None = None
    postgres_programs: Path | None = None


EMBEDDED = Flavour("embedded Valkey and PostgreSQL")


def installed() -> Flavour | None:
    """The installed servers, the oldest of them, since they are what the contract requires."""
    # Debian's redis-server does not start with a moved clock (tests/moved_clock.py).
    redis = None if suite_is_moved() else shutil.which("redis-server")
    postgres = sorted(_DEBIAN_POSTGRES.glob("*/bin"), key=lambda path: int(path.parent.name))
    if redis is None and not postgres:
        return None
    names = [f"Redis ({redis})"] if redis else ["embedded Valkey"]
    names += [f"PostgreSQL {postgres[0].parent.name}"] if postgres else ["embedded PostgreSQL"]
    return Flavour(
        " and ".join(names),
        Path(redis) if redis else None,
        postgres[0] if postgres else None,
    )


def flavours() -> list[Flavour]:
    """Every pair of servers that there is to test on."""
    found = installed()
    return [EMBEDDED] if found is None else [EMBEDDED, found]


class CopiedPostgres(PostgresServer):
    """A PostgreSQL whose new cluster is a copy of the first that a test worker has made with the
    same programs, and which has its database: to make both takes most of a second of a processor.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        bin_dir: Path | None = None,
        settings: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data_dir, bin_dir=bin_dir, settings=settings, env=env, sync=False)

    def _prepare(self, lock: int) -> None:
        if not self._cluster.exists():
            copy_cluster(self.data_dir, self._bin_dir)
        super()._prepare(lock)


def copy_cluster(data_dir: Path, bin_dir: Path) -> None:
    """Gives a PostgreSQL that has yet to start a cluster."""
    first = _first_cluster(bin_dir) / "cluster"
    subprocess.run(["/bin/cp", "-a", str(first), str(data_dir / "cluster")], check=True)


@cache
def _first_cluster(bin_dir: Path) -> Path:
    folder = Path(mkdtemp(prefix="cluster-"))
    atexit.register(shutil.rmtree, folder)
    with PostgresServer(folder, bin_dir=bin_dir, sync=False, settings={"fsync": "off"}):
        return folder


async def execute(dsn: str, *commands: str) -> None:
    """Runs commands on a connection of their own."""
    connection = await asyncpg.connect(dsn)
    for command in commands:
        await connection.execute(command)
    await connection.close()


@dataclass(frozen=True, slots=True)
class Servers:
    """Running servers, for one test worker."""

    redis: ValkeyServer
    postgres: PostgresServer


@contextmanager
def run_servers(flavour: Flavour, folder: Path) -> Iterator[Servers]:
    """Starts both in a folder; both are gone at the end, however it ends."""
    with ExitStack() as stack:
        redis = ValkeyServer(folder / "redis", binary=flavour.redis_binary)
        postgres = CopiedPostgres(
            folder / "postgres", bin_dir=flavour.postgres_programs, settings=POSTGRES_SETTINGS
        )
        stack.enter_context(redis)
        stack.enter_context(postgres)
        yield Servers(redis, postgres)


def describe() -> str:
    """One line for the head of a test run: what it runs on, and what is missing."""
    found = installed()
    also = f"also on {found.name}" if found else "no redis-server on the PATH: not tested on it"
    worker = os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    return f"servers: {EMBEDDED.name}; {also}" + (f"; {worker} workers" if worker else "")
