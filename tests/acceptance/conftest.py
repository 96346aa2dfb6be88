"""One running system for each pair of servers: request in, row out. And one Debian host."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import asyncpg
import jwt
import pytest

from contract import keys
from contract.calendar import SECOND_US
from runtime.clock import wall_clock
from runtime.redis_client import connect_redis
from tests import debian_tree
from tests.debian_tree import DebianTree
from tests.handbook import blocks
from tests.servers import flavours, run_servers
from tests.system import JWT_KEY, Program, System, eventually, run_successfully

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36"
)
SESSIONS = "/web_api/v1/sessions"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass
class Front:
    """A front-end and the database behind it. Every instance has its own site."""

    system: System
    http: aiohttp.ClientSession
    database: asyncpg.Connection
    site: str
    addresses: Any = field(default_factory=lambda: itertools.count(1))

    def token(self, user: str = "ada", role: str | None = None, **claims: Any) -> str:
        """A token of the platform."""
        document = {"sub": user, "exp": wall_clock() // SECOND_US + 60, **claims}
        if role is not None:
            document["highest_role"] = role
        return jwt.encode(document, JWT_KEY)

    async def send(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        user_agent: str | None = FIREFOX,
        address: str | None = "192.0.2.1",
        headers: Mapping[str, str | None] | None = None,
        **options: Any,
    ) -> Answer:
        """Sends a request. A header that is None is left out."""
        usual = {
            "Origin": f"https://{self.site}",
            "X-Forwarded-For": address,
            "User-Agent": user_agent,
            "Authorization": None if token is None else f"Bearer {token}",
        }
        named = {**usual, **(headers or {})}
        given = {name: value for name, value in named.items() if value is not None}
        async with self.http.request(
            method, self.system.url + path, headers=given, **options
        ) as response:
            body = (
                await response.json()
                if response.content_type == "application/json"
                else await response.text()
            )
            return Answer(response.status, response.headers, body)

    async def start(self, **options: Any) -> uuid.UUID:
        """Starts a session that is accepted; its id."""
        answer = await self.send("POST", SESSIONS, **options)
        assert answer.status == 201, answer
        assert answer.body["data"]["type"] == "session"
        return uuid.UUID(answer.body["data"]["id"])

    async def upgrade(self, session: uuid.UUID | str, **options: Any) -> Answer:
        return await self.send("PATCH", f"{SESSIONS}/{session}/upgrade", **options)

    @property
    def collector(self) -> Program:
        """The first collector of the system."""
        return next(one for one in self.system.programs if one.module == "collector")

    async def metric(self, name: str) -> float:
        """A metric of the collector; 0 where it has no such one yet."""
        return (await self.collector.metrics()).get(name, 0.0)

    async def rows(self) -> list[asyncpg.Record]:
        """This site's rows, in the order of their sessions."""
        return list(
            await self.database.fetch(
                "SELECT * FROM sessions WHERE site = $1 ORDER BY created_at", self.site
            )
        )

    async def settled(self, sessions: int, upgraded: int = 0) -> list[asyncpg.Record]:
        """The rows, once they are as many, and no entry is left that could become another."""
        redis = connect_redis(self.system.redis_url)

        def upgraded_of(rows: list[asyncpg.Record]) -> int:
            return sum(row["upgraded_at"] is not None for row in rows)

        async def entries() -> int:
            return sum([await redis.xlen(keys.stream(shard)) for shard in range(8)])

        await eventually(
            self.rows, lambda rows: len(rows) >= sessions and upgraded_of(rows) >= upgraded
        )
        try:
            await eventually(entries, lambda left: left == 0)
        finally:
            await redis.aclose()
        rows = await self.rows()
        assert len(rows) == sessions, rows
        assert upgraded_of(rows) == upgraded, rows
        return rows


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of a running system run on every pair of servers, or on those in `FLAVOURS` of their
    module.
    """
    if "running_system" in metafunc.fixturenames:
        pairs = getattr(metafunc.module, "FLAVOURS", flavours())
        names = [pair.name for pair in pairs]
        metafunc.parametrize("running_system", pairs, indirect=True, ids=names, scope="package")


@pytest.fixture(scope="package")
def running_system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """One system for each test worker and pair of servers. It ends with the last test of this
    folder: a system that has nothing to do takes some four hundredths of a processor.
    """
    folder = tmp_path_factory.mktemp("acceptance")
    with (
        run_servers(request.param, folder) as servers,
        System(servers.redis.url, servers.postgres.dsn(), folder / "logs") as system,
    ):
        asyncio.run(start_all(system, "rotation", "collector", "flusher", "flusher"))
        yield system


async def start_all(system: System, *modules: str) -> None:
    """Migrates the database, and starts these processes."""
    await run_successfully("flusher", "migrate", **system.environment)
    await system.start(*modules)


@pytest.fixture
async def front(running_system: System) -> AsyncIterator[Front]:
    async with front_of(running_system) as front:
        yield front


@asynccontextmanager
async def front_of(system: System) -> AsyncIterator[Front]:
    """A front-end of a system that runs."""
    async with aiohttp.ClientSession(skip_auto_headers=["User-Agent"]) as http:
        database = await asyncpg.connect(system.database_url)
        yield Front(system, http, database, f"{uuid.uuid4().hex}.example.org")
        await database.close()


@pytest.fixture(scope="package")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianTree]:
    """A bare Debian 12, set up by the handbook's commands."""
    if why := debian_tree.missing():
        pytest.skip(why)
    with debian_tree.boot(tmp_path_factory.mktemp("host")) as tree:
        tree.put_checkout("/root/impact")
        tree.put_wheels()
        # As `adduser` would have made it: with a home, where asyncpg looks for certificates.
        tree.run("useradd --system --home-dir /home/impact impact")
        for command in blocks("On Debian 12, all on one host"):
            tree.run(f"cd /root/impact\n{command}")
        yield tree
