"""The number of shards changes while the system runs: nothing is left behind."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from redis.asyncio import Redis

from contract import keys
from contract.record import FIELD
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.servers import Servers
from tests.system import System, eventually, run_command

SENT = 60


@pytest.fixture
def system(embedded_servers: Servers, dsn: str, redis: Redis, tmp_path: Path) -> Iterator[System]:
    assert redis is not None  # an empty one
    with System(embedded_servers.redis.url, dsn, tmp_path) as system:
        yield system


async def send(system: System, count: int) -> None:
    async with aiohttp.ClientSession(headers={"User-Agent": FIREFOX}) as http:

        async def one() -> None:
            async with http.post(system.url + SESSIONS) as response:
                assert response.status == 201, await response.text()

        await asyncio.gather(*(one() for _ in range(count)))


async def rows_are(system: System, count: int) -> None:
    database = await asyncpg.connect(system.database_url)

    async def rows() -> int:
        return int(await database.fetchval("SELECT count(*) FROM sessions"))

    await eventually(rows, lambda found: found == count)
    await database.close()


@pytest.mark.long
@pytest.mark.parametrize(("collectors", "flushers"), [("8", "4"), ("4", "8")])
async def test_a_flusher_drains_what_collectors_of_another_number_append(
    system: System, redis: Redis, collectors: str, flushers: str
) -> None:
    """Both from before its start, and what comes while it runs."""
    collector = await system.program("collector", STREAM_SHARDS=collectors).start().ready()
    await send(system, SENT)
    flusher = await system.program("flusher", STREAM_SHARDS=flushers).start().ready()
    await rows_are(system, SENT)
    await send(system, SENT)
    await rows_are(system, 2 * SENT)
    # A stream that is made while it runs is found, too, and so is what can't be read in it.
    await redis.xadd(keys.stream(700), {FIELD: b"no record"})

    async def dead() -> list[int]:
        status = ("status", "--json")
        environment = system.environment | {"STREAM_SHARDS": flushers}
        code, output, errors = await run_command("flusher", *status, **environment)
        assert code == 0, errors
        shards = json.loads(output)["shards"]
        assert len(shards) == 9, "8, and the one that was found"
        return [shard["shard"] for shard in shards if shard["dead_letters"]]

    await eventually(dead, lambda shards: shards == [700])
    assert await flusher.stop() == await collector.stop() == 0
    code, output, _ = await run_command("flusher", "dead", "replay", **system.environment)
    assert (code, output.count("replayed 700:")) == (0, 1)


async def test_status_says_only_what_is_there(system: System, redis: Redis) -> None:
    code, output, errors = await run_command(
        "flusher", "status", "--json", **system.environment, STREAM_SHARDS="8"
    )
    assert (code, errors) == (0, "")
    assert [shard["shard"] for shard in json.loads(output)["shards"]] == [*range(8)]
    assert await redis.dbsize() == 0, "looking makes nothing"
