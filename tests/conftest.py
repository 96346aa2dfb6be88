"""Fixtures: servers once a worker, a database and an empty Redis for each test."""

import gc
import itertools
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from redis.asyncio import Redis

from contract.calendar import SECOND_US, Month, month_at
from flusher.postgres.database import Database, connect
from flusher.postgres.migrate import migrate
from runtime.clock import wall_clock
from runtime.redis_client import connect_redis
from runtime.shards import OneServer
from tests.browser import programs
from tests.servers import EMBEDDED, Flavour, Servers, describe, flavours, run_servers
from tests.shares import in_shares
from tests.system import System

UTC = ZoneInfo("UTC")
_TEMPLATE = "template_impact"
_LONGEST_TEST_US = 60 * SECOND_US

# The tests start Python by the hundred. Each time it would compile what is not kept compiled, and
# aiohttp would read all of the system's authorities, of which no test needs one.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("SSL_CERT_FILE", os.devnull)
# What is collected stays to the end, so that a search for garbage finds none and costs a third of
# the collection, in every worker.
gc.disable()
# A shell that starts the tests in the background has SIGINT ignored, also in their processes, and
# Ctrl-C is a thing that they test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """More than there are cores: the tests wait for processes half of their time."""
    return (os.cpu_count() or 2) * 2


@pytest.hookimpl(trylast=True)  # after deselection
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items[:] = in_shares(items, workers)


def pytest_collection_finish() -> None:
    """From here on garbage is searched for, but not among what was collected."""
    gc.freeze()
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begins no test that starts processes so shortly before a month's end that it would go on in
    the next month. Those that are about a month's end have clocks of their own.
    """
    if "unit" in item.path.parts:
        return
    while month_at(wall_clock() + _LONGEST_TEST_US, UTC) != month_at(wall_clock(), UTC):
        time.sleep(0.1)  # the time itself is what is waited for


def pytest_report_header() -> list[str]:
    return [describe(), programs.describe()]


@pytest.fixture(scope="session")
def embedded_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The embedded Valkey and PostgreSQL."""
    with run_servers(EMBEDDED, tmp_path_factory.mktemp("embedded")) as servers:
        yield servers


@pytest.fixture
async def redis(embedded_servers: Servers) -> AsyncIterator[Redis]:
    """A client of an empty Valkey."""
    client = connect_redis(embedded_servers.redis.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def shards(request: pytest.FixtureRequest, redis: Redis) -> AsyncIterator[OneServer]:
    """Stream shards on it: as many as `SHARDS` of the test's module says, or eight."""
    shards = OneServer(redis, getattr(request.module, "SHARDS", 8))
    yield shards
    await shards.aclose()


@pytest.fixture
def this_month() -> Month:
    """The month that real processes live in, to the end of the test."""
    return month_at(wall_clock(), UTC)


class Databases:
    """Makes migrated databases, copied from a template: some 50 ms each."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._numbers = itertools.count()
        self._migrated = False

    async def create(self) -> str:
        """The DSN of a new, migrated database."""
        if not self._migrated:
            await self.create_empty(_TEMPLATE)
            connection = await connect(self._servers.postgres.dsn(_TEMPLATE))
            await migrate(connection, UTC)
            await connection.close()
            self._migrated = True
        name = f"test_{next(self._numbers)}"
        await self.create_empty(name, template=_TEMPLATE)
        return self._servers.postgres.dsn(name)

    async def create_empty(self, name: str, template: str = "template1") -> str:
        """The DSN of a new database."""
        # Not by way of the log, which takes nearly twice as much of a processor.
        await self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return self._servers.postgres.dsn(name)

    async def drop(self, dsn: str) -> None:
        """Drops a database, open connections or not: hundreds would be a gigabyte."""
        name = dsn.rpartition("/")[2]
        await self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    async def _execute(self, command: str) -> None:
        connection = await asyncpg.connect(self._servers.postgres.dsn("postgres"))
        await connection.execute(command)
        await connection.close()


@pytest.fixture(scope="session")
def databases(embedded_servers: Servers) -> Databases:
    return Databases(embedded_servers)


@pytest.fixture
async def dsn(databases: Databases) -> AsyncIterator[str]:
    """A migrated database of this test's own."""
    dsn = await databases.create()
    yield dsn
    await databases.drop(dsn)


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    async with Database(dsn) as database:
        yield database


@pytest.fixture
def system(embedded_servers: Servers, dsn: str, redis: Redis, tmp_path: Path) -> Iterator[System]:
    """Processes on an empty Redis and the test's database."""
    assert redis is not None  # it was emptied
    with System(embedded_servers.redis.url, dsn, tmp_path) as system:
        yield system


@pytest.fixture(params=flavours(), ids=lambda flavour: flavour.name)
def flavour(request: pytest.FixtureRequest) -> Flavour:
    """Each pair of servers in turn."""
    found: Flavour = request.param
    return found


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket on which systemd would hear from a service (NOTIFY_SOCKET)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening
