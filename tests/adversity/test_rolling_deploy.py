"""Another release, or another number of shards, while the system runs: nothing is left behind."""

import asyncio
import json
import time
from typing import Any

import aiohttp
import asyncpg
import pytest
from redis.asyncio import Redis

from contract import keys
from contract.record import FIELD
from contract.settings import STREAM_SHARDS
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.system import Program, System, eventually, run_command, run_successfully

SENT = 40
_SHARDS = range(STREAM_SHARDS.read({}))


@pytest.fixture
def system(system: System) -> System:
    system.extra = {"FLUSH_CLAIM_SECONDS": "1"}
    return system


def of_next_release(system: System, module: str) -> Program:
    program = system.program(module)
    program.module, program.arguments = "tests.adversity.next_release", (module,)
    return program.start()


async def send(system: System, count: int) -> None:
    # A connection each: the kernel shares them out over all collectors.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        for _ in range(count):
            async with http.post(system.url + SESSIONS, headers={"User-Agent": FIREFOX}) as answer:
                assert answer.status == 201, await answer.text()


async def rows_are(system: System, count: int) -> None:
    database = await asyncpg.connect(system.database_url)
    query = "SELECT count(*) FROM sessions"
    await eventually(lambda: database.fetchval(query), lambda rows: rows == count)
    await database.close()


@pytest.mark.long
async def test_what_a_newer_collector_appends_waits_for_a_newer_flusher(
    system: System, redis: Redis
) -> None:
    old_collector, old_flusher = await system.start("collector", "flusher")
    new_collector = await of_next_release(system, "collector").ready()
    await send(system, SENT)
    newer = int((await new_collector.metrics())['impact_accepted_total{kind="session"}'])
    assert 0 < newer < SENT, "both collectors have received some"

    async def pending() -> int:
        found: Any = [await redis.xpending(keys.stream(shard), keys.GROUP) for shard in _SHARDS]
        return sum(each["pending"] for each in found)

    await rows_are(system, SENT - newer)
    await eventually(pending, lambda count: count == newer)
    assert not any([await redis.xlen(keys.dead_letters(shard)) for shard in _SHARDS])
    assert "wait for a flusher of that release" in old_flusher.log

    new_flusher = await of_next_release(system, "flusher").ready()
    assert await old_flusher.stop() == 0, old_flusher.log
    assert await old_collector.stop() == 0, old_collector.log
    await send(system, 5)
    await rows_are(system, SENT + 5)
    await eventually(pending, lambda count: count == 0)
    assert await new_flusher.stop() == await new_collector.stop() == 0


@pytest.mark.long
async def test_a_migration_runs_while_the_old_version_writes(system: System) -> None:
    """The whole of `migrate`, and a step that adds what the old version does not know."""
    await system.start("collector", "flusher")
    database = await asyncpg.connect(system.database_url)
    sending = asyncio.create_task(send(system, 200))
    longest = 0.0
    while not sending.done():
        started = time.monotonic()
        await run_successfully("flusher", "migrate", **system.environment)
        # What a step of the next release may do: a column, an index, a view, each under a bound.
        await database.execute(
            "SET lock_timeout = '5s'; "
            "ALTER TABLE sessions ADD COLUMN IF NOT EXISTS of_the_next_release text; "
            "CREATE OR REPLACE VIEW of_the_next_release AS SELECT of_the_next_release FROM sessions"
        )
        longest = max(longest, time.monotonic() - started)
    await sending
    await database.close()
    await rows_are(system, 200)
    assert longest > 0, "it ran at least once meanwhile"
    for program in system.programs:
        assert await program.stop() == 0, program.log
        assert "has to wait" not in program.log


@pytest.mark.long
@pytest.mark.parametrize(("collectors", "flushers"), [("8", "4"), ("4", "8")])
async def test_a_flusher_drains_what_collectors_of_another_number_of_shards_append(
    system: System, redis: Redis, collectors: str, flushers: str
) -> None:
    """What came before its start, and what comes while it runs."""
    collector = await system.program("collector", STREAM_SHARDS=collectors).start().ready()
    await send(system, SENT)
    flusher = await system.program("flusher", STREAM_SHARDS=flushers).start().ready()
    await rows_are(system, SENT)
    await send(system, SENT)
    await rows_are(system, 2 * SENT)
    # A stream that is created while it runs is found, too, and so is what can't be read in it.
    await redis.xadd(keys.stream(700), {FIELD: b"no record"})

    async def dead() -> list[int]:
        environment = system.environment | {"STREAM_SHARDS": flushers}
        shards = await status_of_shards(environment)
        assert len(shards) == 9, "8, and the one that was found"
        return [shard["shard"] for shard in shards if shard["dead_letters"]]

    await eventually(dead, lambda shards: shards == [700])
    assert await flusher.stop() == await collector.stop() == 0
    output = await run_successfully("flusher", "dead", "replay", **system.environment)
    assert output.count("replayed 700:") == 1


async def test_status_creates_no_streams(system: System, redis: Redis) -> None:
    shards = await status_of_shards(system.environment | {"STREAM_SHARDS": "8"})
    assert [shard["shard"] for shard in shards] == [*range(8)]
    assert await redis.dbsize() == 0


async def status_of_shards(environment: dict[str, str]) -> list[dict[str, Any]]:
    code, output, errors = await run_command("flusher", "status", "--json", **environment)
    assert (code, errors) == (0, "")
    shards: list[dict[str, Any]] = json.loads(output)["shards"]
    return shards
