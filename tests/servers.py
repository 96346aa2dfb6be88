"""Which servers the tests run on: the embedded ones always, installed ones when they are there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

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
        postgres = PostgresServer(
            folder / "postgres",
            bin_dir=flavour.postgres_programs,
            settings=POSTGRES_SETTINGS,
            sync=False,
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
