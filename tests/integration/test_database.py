"""The flusher's connection on a real PostgreSQL: what its errors ask for."""

import asyncio
from contextlib import suppress
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from contract.errors import Retry
from flusher.postgres.database import Database
from flusher.postgres.server_checks import examine_postgres
from tests.adversity.breakable_proxy import BreakableProxy
from tests.instant import clock
from tests.servers import Servers


class LateEnd(BreakableProxy):
    """Passes on what the server says, but not that it has hung up."""

    def __init__(self, to_port: int) -> None:
        super().__init__(to_port)
        self.hung_up = asyncio.Event()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(EOFError):
            await super()._pass_on(reader, writer)
        self.hung_up.set()
        await asyncio.Event().wait()  # until the connection is taken away


@pytest.mark.parametrize(("query", "arguments"), [("SELECT 1", []), ("SELECT $1::int", [1])])
async def test_a_connection_that_the_server_ended_meanwhile_is_an_outage(
    embedded_servers: Servers, dsn: str, query: str, arguments: list[int]
) -> None:
    """As after a freeze: its last words have come, and the end of the connection has not."""
    port = embedded_servers.postgres.port
    direct = await asyncpg.connect(dsn)
    async with (
        LateEnd(port) as proxy,
        Database(dsn.replace(f":{port}/", f":{proxy.port}/")) as database,
    ):
        async with database.connection() as connection:
            ended = connection.get_server_pid()
        proxy.hung_up.clear()
        await direct.execute("SELECT pg_terminate_backend($1)", ended)
        await proxy.hung_up.wait()
        await direct.execute("SELECT 1")  # a turn of the loop: its last words are read
        with pytest.raises(Retry, match="it has ended the connection"):
            async with database.connection() as connection:
                await connection.fetchval(query, *arguments)
        async with database.connection() as connection:
            assert connection.get_server_pid() != ended
            assert await connection.fetchval("SELECT 1") == 1
    await direct.close()


@pytest.mark.parametrize(("zone", "differs"), [("UTC", False), ("Asia/Tokyo", True)])
async def test_a_flusher_with_another_calendar_than_the_databases_says_so(
    dsn: str, zone: str, *, differs: bool
) -> None:
    found = await examine_postgres(dsn, clock, ZoneInfo(zone))
    assert [each.value for each in found if each.setting == "calendar"] == ["UTC"] * differs
