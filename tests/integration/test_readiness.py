"""`/readyz` says whether a process can do its work, `/livez` only that it runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from contract import keys
from tests.servers import Servers
from tests.system import Program, System, eventually

NOWHERE = {
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "DATABASE_URL": "postgresql://postgres@127.0.0.1:1/impact",
}


@pytest.fixture
def system(embedded_servers: Servers, dsn: str, redis: Redis, tmp_path: Path) -> Iterator[System]:
    assert redis is not None  # an empty one
    with System(embedded_servers.redis.url, dsn, tmp_path) as system:
        yield system


async def ask(program: Program, page: str) -> tuple[int, Any]:
    try:
        async with aiohttp.ClientSession() as http, http.get(program.admin_url + page) as answer:
            return answer.status, await answer.json()
    except aiohttp.ClientConnectionError:
        return 0, None


async def fails(program: Program, *checks: str) -> None:
    """Waits until exactly these checks fail."""

    async def readyz() -> tuple[int, Any]:
        return await ask(program, "/readyz")

    status, answer = await eventually(
        readyz, lambda told: bool(told[1]) and set(told[1]["failed"]) == set(checks)
    )
    assert (status, answer["ready"]) == ((503, False) if checks else (200, True))
    assert all(isinstance(why, str) and why for why in answer["failed"].values())


@pytest.mark.long
async def test_a_collector_without_traffic_knows_whether_redis_takes_writes(
    system: System, redis: Redis
) -> None:
    (collector,) = await system.start("collector")
    assert await redis.exists(keys.probe(0))
    await fails(collector)
    await redis.config_set("maxmemory", "1")
    try:
        await fails(collector, "write", "buffer")
        assert await ask(collector, "/livez") == (200, {"live": True})
    finally:
        await redis.config_set("maxmemory", "0")
    await fails(collector)


async def test_a_collector_that_is_asked_to_stop_is_not_ready(system: System) -> None:
    (collector,) = await system.start("collector")
    async with (
        aiohttp.ClientSession() as http,
        http.get(system.url) as answer,  # kept alive: it is waited for
    ):
        assert answer.status == 404
        collector.running.terminate()
        await fails(collector, "draining", "listening")
    assert await collector.exit_code() == 0


@pytest.mark.parametrize(
    ("module", "checks"),
    [
        ("collector", ("write", "salt", "buffer", "restart")),
        ("flusher", ("flush", "redis", "postgres")),
        ("rotation", ("salt",)),
    ],
)
async def test_without_its_servers_a_process_lives_and_is_not_ready(
    system: System, module: str, checks: tuple[str, ...]
) -> None:
    program = system.program(module, **NOWHERE).start()
    await fails(program, *checks)
    assert await ask(program, "/livez") == (200, {"live": True})


async def test_a_flusher_without_postgres_is_not_ready_though_it_has_nothing_to_do(
    system: System,
) -> None:
    program = system.program("flusher", DATABASE_URL=NOWHERE["DATABASE_URL"]).start()
    await fails(program, "postgres")
    assert await ask(program, "/livez") == (200, {"live": True})


async def test_a_flusher_without_redis_blames_redis_and_not_postgres(system: System) -> None:
    """On its page and in its log."""
    program = system.program("flusher", REDIS_URL=NOWHERE["REDIS_URL"]).start()
    await fails(program, "flush", "redis")

    async def lines() -> list[str]:
        return [line for line in program.log.splitlines() if "a batch has to wait" in line]

    for line in await eventually(lines):
        assert "see that Redis is up" in line
        assert "PostgreSQL" not in line


async def test_a_second_process_of_a_host_says_where_its_admin_pages_are(system: System) -> None:
    (first,) = await system.start("collector")
    port = first.environment["ADMIN_PORT"]
    second = system.program("collector", ADMIN_PORT=port).start()

    async def log() -> str:
        return second.log

    said = await eventually(log, lambda text: "admin pages are served" in text)
    assert "ADMIN_PORT is another process's" in said
    assert port in said
