"""What a process says of itself and of its servers, and what it never says."""

import asyncio
import json
from typing import Any

import jwt
import pytest
from redis.asyncio import Redis

from contract.version import VERSION
from runtime.clock import wall_clock
from runtime.redis_checks import examine_redis
from runtime.redis_client import connect_redis
from runtime.redis_replay import STREAM_WRITES
from tests.adversity.test_floods import post
from tests.servers import Servers
from tests.system import JWT_KEY, Program, System, eventually, run_command


@pytest.fixture
def system(system: System) -> System:
    """With a secret in its settings, and logs that are JSON."""
    system.redis_url = system.redis_url.replace("//", "//default:hunter2@")
    system.extra = {"LOG_FORMAT": "json"}
    return system


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
async def test_a_process_says_its_release_its_settings_and_what_it_uses_and_no_secret(
    system: System, module: str
) -> None:
    assert await run_command(module, "--version") == (0, f"{VERSION}\n", "")
    (program,) = await system.start(module)
    shown = await program.metrics()
    assert shown[f'impact_build_info{{version="{VERSION}"}}'] == 1
    assert shown["process_resident_memory_bytes"] > 0
    assert shown["process_open_fds"] > 0
    assert await program.stop() == 0
    first = lines(program)[0]
    assert first["event"] == f"{module} starts"
    assert first["version"] == VERSION
    assert {line["process"] for line in lines(program)} == {module}
    assert first["REDIS_URL"].startswith("redis://default:***@127.0.0.1:")
    assert first["STREAM_SHARDS"] == "1"
    assert first.get("JWT_KEY", "set") == "set"
    assert "hunter2" not in program.log
    assert JWT_KEY not in program.log


async def test_a_secret_that_is_too_short_is_warned_of_once_and_works(system: System) -> None:
    secret = "short"
    collector = await system.program("collector", JWT_KEY=secret).start().ready()
    token = jwt.encode({"sub": "ada"}, (secret * 10)[:50], "HS256")  # another's
    for _ in range(2):
        assert await post(system, Authorization=f"Bearer {token}") == 201
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
    """As a managed server. A setting that can't be known is reported as unknown."""
    await redis.acl_setuser(
        "managed", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-config"]
    )
    await redis.config_set("appendonly", "no")
    url = embedded_servers.redis.url.replace("//", "//managed:x@")
    client = connect_redis(url)
    try:
        assert await examined(client) == [("appendonly", "no")]
        await redis.config_set("appendonly", "yes")
        assert await examined(client) == [("appendfsync", "unknown")]
    finally:
        await redis.config_set("appendonly", "yes")
        await redis.acl_deluser("managed")
        await client.aclose()


async def examined(client: Redis) -> list[tuple[str, str]]:
    found = await examine_redis(client, wall_clock, "REDIS_URL", STREAM_WRITES)
    return [(broken.setting, broken.value) for broken in found]


async def said(program: Program, *events: str, after: int = 0) -> list[dict[str, Any]]:
    """A program's lines that have these words, once there is one of each; behind so many characters
    of its log.
    """

    async def found() -> list[dict[str, Any]]:
        # The last line may be in the making.
        return [
            line
            for line in map(json.loads, program.log[after:].rpartition("\n")[0].splitlines())
            if line["event"] in events
        ]

    return await eventually(found, lambda seen: {line["event"] for line in seen} == {*events})


async def test_the_end_of_an_outage_is_one_line_of_each_process(
    system: System, embedded_servers: Servers
) -> None:
    """And not one of each of the eight shards; that of PostgreSQL, too, though nothing is to be
    stored.
    """
    collector, flusher, rotation = await system.start("collector", "flusher", "rotation")
    assert await post(system) == 201
    before = {id(program): len(program.log) for program in system.programs}
    await asyncio.to_thread(embedded_servers.redis.stop)
    try:
        assert await post(system) == 503
        await asyncio.to_thread(embedded_servers.postgres.stop)
        await said(collector, "sessions can't be written", "the salt could not be checked")
        await said(flusher, "a batch has to wait", "PostgreSQL does not answer")
        assert "PostgreSQL answers again" not in flusher.log
        await said(rotation, "the salt could not be looked after")
    finally:
        await asyncio.to_thread(embedded_servers.postgres.start)
        await asyncio.to_thread(embedded_servers.redis.start)
    for program in (collector, flusher, rotation):
        await program.ready()
    assert await post(system) == 201
    over = [
        await said(collector, "sessions are written again", after=before[id(collector)]),
        await said(collector, "the salt is checked again", after=before[id(collector)]),
        await said(flusher, "batches go on", after=before[id(flusher)]),
        await said(flusher, "PostgreSQL answers again", after=before[id(flusher)]),
        await said(rotation, "the salt is looked after again", after=before[id(rotation)]),
    ]
    assert [len(lines) for lines in over] == [1, 1, 1, 1, 1]
    assert all(0 < lines[0]["lasted_seconds"] < 100 for lines in over)


@pytest.mark.parametrize("module", ["collector", "flusher", "rotation"])
async def test_a_wrong_setting_ends_a_process_with_a_line_of_its_logs_form(module: str) -> None:
    """And a command for people with text."""
    wrong = {"REDIS_URL": "http://nowhere", "LOG_FORMAT": "json"}
    said = "REDIS_URL: is not a URL that begins with redis://"
    code, output, errors = await run_command(module, **wrong, DATABASE_URL="postgresql:///x")
    line = json.loads(errors)
    assert (code, output, line["level"], line["process"]) == (2, "", "critical", module)
    assert line["exit_code"] == code
    assert line["why"].startswith(said)
    if module != "collector":
        code, _, errors = await run_command(module, "status", **wrong)
        assert code == 2
        assert errors.startswith(f"error: {said}")
