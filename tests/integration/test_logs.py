"""What a process says of itself and of its servers, and what it never says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from redis.asyncio import Redis

from process.clock import wall_clock
from process.redis_client import connect_redis
from process.redis_promises import examine_redis
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.servers import Servers
from tests.system import JWT_KEY, Program, System, eventually


@pytest.fixture
def system(embedded_servers: Servers, dsn: str, redis: Redis, tmp_path: Path) -> Iterator[System]:
    assert redis is not None  # an empty one
    url = embedded_servers.redis.url.replace("//", "//default:hunter2@")
    with System(url, dsn, tmp_path, {"LOG_FORMAT": "json"}) as system:
        yield system


def lines(program: Program) -> list[dict[str, Any]]:
    return [json.loads(line) for line in program.log.splitlines()]


async def warned(program: Program) -> dict[tuple[str, str], str]:
    """The servers' settings that a process warns of, once it has looked at all of its servers."""

    async def found() -> dict[tuple[str, str], str]:
        return {
            (line["server"], line["setting"]): line["value"]
            for line in lines(program)
            if line["event"] == "a setting of a server breaks a promise" and line["to_do"]
        }

    return await eventually(found)


@pytest.mark.parametrize("module", ["collector", "flusher", "rotation"])
async def test_the_first_line_has_the_settings_and_no_secret(system: System, module: str) -> None:
    (program,) = await system.start(module)
    assert await program.stop() == 0
    first = lines(program)[0]
    assert first["event"] == f"{module} starts"
    assert first["REDIS_URL"].startswith("redis://default:***@127.0.0.1:")
    assert first["STREAM_SHARDS"] == "8"
    assert first.get("JWT_KEY", "set") == "set"
    assert "hunter2" not in program.log
    assert JWT_KEY not in program.log


async def test_a_secret_that_is_too_short_is_warned_of_once_and_works(system: System) -> None:
    secret = "short"
    collector = await system.program("collector", JWT_KEY=secret).start().ready()
    token = jwt.encode({"sub": "ada"}, (secret * 10)[:50], "HS256")  # another's
    async with aiohttp.ClientSession(headers={"User-Agent": FIREFOX}) as http:
        for _ in range(2):
            headers = {"Authorization": f"Bearer {token}"}
            async with http.post(system.url + SESSIONS, headers=headers) as answer:
                assert answer.status == 201
    assert await collector.stop() == 0
    (warning,) = [line for line in lines(collector) if "JWT_KEY is short" in line["event"]]
    assert warning["level"] == "warning"
    assert "32 bytes" in warning["why"]
    assert warning["to_do"]


async def test_each_setting_of_a_server_that_breaks_a_promise_is_warned_of(
    system: System, redis: Redis
) -> None:
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    await redis.config_set("appendfsync", "no")
    try:
        (collector,) = await system.start("collector")
        assert await warned(collector) == {
            ("REDIS_URL", "maxmemory-policy"): "allkeys-lru",
            ("REDIS_URL", "appendfsync"): "no",
        }
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
        await redis.config_set("appendfsync", "everysec")
    # The cluster of these tests does not sync.
    (flusher,) = await system.start("flusher")
    assert await warned(flusher) == {("DATABASE_URL", "fsync"): "off"}


async def test_a_server_that_does_not_tell_its_settings_is_asked_otherwise(
    embedded_servers: Servers, redis: Redis
) -> None:
    """As managed ones; and what can't be known is said."""
    await redis.acl_setuser(
        "managed", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-config"]
    )
    await redis.config_set("appendonly", "no")
    url = embedded_servers.redis.url.replace("//", "//managed:x@")
    client = connect_redis(url)
    try:
        assert [
            (b.setting, b.value) for b in await examine_redis(client, wall_clock, "REDIS_URL")
        ] == [("appendonly", "no")]
        await redis.config_set("appendonly", "yes")
        assert [
            (b.setting, b.value) for b in await examine_redis(client, wall_clock, "REDIS_URL")
        ] == [("appendfsync", "unknown")]
    finally:
        await redis.config_set("appendonly", "yes")
        await redis.acl_deluser("managed")
        await client.aclose()
