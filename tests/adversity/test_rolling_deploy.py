"""One release follows another while the system runs: nothing is lost between the two."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from redis.asyncio import Redis

from contract import keys
from contract.settings import STREAM_SHARDS
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.servers import Servers
from tests.system import Program, System, eventually, run_command

SENT = 40
_SHARDS = range(STREAM_SHARDS.read({}))


@pytest.fixture
def system(embedded_servers: Servers, dsn: str, redis: Redis, tmp_path: Path) -> Iterator[System]:
    assert redis is not None  # an empty one
    claim = {"FLUSH_CLAIM_SECONDS": "1"}
    with System(embedded_servers.redis.url, dsn, tmp_path, claim) as system:
        yield system


def of_next_release(system: System, module: str) -> Program:
    program = system.program(module)
    program.module, program.arguments = "tests.adversity.next_release", (module,)
    return program.start()


async def send(system: System, count: int) -> None:
    # A connection each: the kernel shares them out over both collectors.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        for _ in range(count):
            async with http.post(system.url + SESSIONS, headers={"User-Agent": FIREFOX}) as answer:
                assert answer.status == 201, await answer.text()


@pytest.mark.long
async def test_what_a_newer_collector_appends_waits_for_a_newer_flusher(
    system: System, redis: Redis
) -> None:
    old_collector, old_flusher = await system.start("collector", "flusher")
    new_collector = await of_next_release(system, "collector").ready()
    await send(system, SENT)

    async def told() -> dict[str, float]:
        return await new_collector.metrics()

    newer = int((await told())['impact_accepted_total{kind="session"}'])
    assert 0 < newer < SENT, "both collectors were asked"
    database = await asyncpg.connect(system.database_url)

    async def rows() -> int:
        return int(await database.fetchval("SELECT count(*) FROM sessions"))

    async def pending() -> int:
        found: Any = [await redis.xpending(keys.stream(shard), keys.GROUP) for shard in _SHARDS]
        return sum(each["pending"] for each in found)

    await eventually(rows, lambda count: count == SENT - newer)
    await eventually(pending, lambda count: count == newer)
    assert not any([await redis.xlen(keys.dead_letters(shard)) for shard in _SHARDS])
    assert "wait for a flusher of that release" in old_flusher.log

    new_flusher = await of_next_release(system, "flusher").ready()
    assert await old_flusher.stop() == 0, old_flusher.log
    assert await old_collector.stop() == 0, old_collector.log
    await send(system, 5)
    await eventually(rows, lambda count: count == SENT + 5)
    await eventually(pending, lambda count: count == 0)
    assert await new_flusher.stop() == await new_collector.stop() == 0
    await database.close()


@pytest.mark.long
async def test_a_migration_runs_while_the_old_version_writes(system: System) -> None:
    """The whole of `migrate`, and a step that adds what the old version does not know."""
    await system.start("collector", "flusher")
    database = await asyncpg.connect(system.database_url)
    sending = asyncio.create_task(send(system, 200))
    longest = 0.0
    while not sending.done():
        started = time.monotonic()
        code, _, errors = await run_command("flusher", "migrate", **system.environment)
        assert code == 0, errors
        # What a step of the next release may do: a column, an index, a view, each under a bound.
        await database.execute(
            "SET lock_timeout = '5s'; "
            "ALTER TABLE sessions ADD COLUMN IF NOT EXISTS of_the_next_release text; "
            "CREATE OR REPLACE VIEW of_the_next_release AS SELECT of_the_next_release FROM sessions"
        )
        longest = max(longest, time.monotonic() - started)
    await sending

    async def rows() -> int:
        return int(await database.fetchval("SELECT count(*) FROM sessions"))

    await eventually(rows, lambda count: count == 200)
    await database.close()
    assert longest > 0, "it ran at least once meanwhile"
    for program in system.programs:
        assert await program.stop() == 0, program.log
        assert "has to wait" not in program.log
