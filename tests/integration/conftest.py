"""What several files start and end for each of their tests."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from embedded.postgres import PostgresServer
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres, flavours


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is entered in it ends with the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection to the test's database."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
def writer(database: Database) -> SessionWriter:
    return SessionWriter(database, ZoneInfo("UTC"))


@pytest.fixture(scope="module", params=flavours(), ids=lambda flavour: flavour.name)
def postgres(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresServer]:
    """Each PostgreSQL in turn, a server of the module's own."""
    with CopiedPostgres(
        tmp_path_factory.mktemp("module") / "postgres",
        bin_dir=request.param.postgres_programs,
        settings=POSTGRES_SETTINGS,
    ) as postgres:
        yield postgres
