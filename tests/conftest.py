"""Fixtures: servers once a worker, a database and an empty Redis for each test."""

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from redis.asyncio import Redis

from flusher.database import Database, connect
from flusher.migrate import migrate
from process.redis_client import connect_redis
from tests.browser import programs
from tests.servers import EMBEDDED, Servers, describe, run_servers

_TEMPLATE = "template_impact"

# The tests start Python by the hundred. Each time it would compile what is not kept compiled, and
# aiohttp would read all of the system's authorities, of which no test needs one.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("SSL_CERT_FILE", os.devnull)


def pytest_xdist_auto_num_workers() -> int:
    """More than there are cores: the tests wait for processes half of their time."""
    return (os.cpu_count() or 2) * 2


@pytest.hookimpl(trylast=True)  # when those that are not asked for are gone
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives each worker its share of the longest tests, and those first.

    `--dist worksteal` begins by cutting the list into one piece a worker; who is done takes from
    the end of another's.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    longest = [item for item in items if "adversity" in item.path.parts]
    others = [item for item in items if "adversity" not in item.path.parts]
    pieces = [
        longest[number::workers]
        + others[len(others) * number // workers : len(others) * (number + 1) // workers]
        for number in range(workers)
    ]
    items[:] = itertools.chain.from_iterable(pieces)


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
            await migrate(connection, ZoneInfo("UTC"))
            await connection.close()
            self._migrated = True
        name = f"test_{next(self._numbers)}"
        await self.create_empty(name, template=_TEMPLATE)
        return self._servers.postgres.dsn(name)

    async def create_empty(self, name: str, template: str = "template1") -> str:
        """The DSN of a new database."""
        connection = await asyncpg.connect(self._servers.postgres.dsn("postgres"))
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        await connection.close()
        return self._servers.postgres.dsn(name)


@pytest.fixture(scope="session")
def databases(embedded_servers: Servers) -> Databases:
    return Databases(embedded_servers)


@pytest.fixture
async def dsn(databases: Databases) -> str:
    """A migrated database of this test's own."""
    return await databases.create()


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    async with Database(dsn) as database:
        yield database
