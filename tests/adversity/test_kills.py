"""SIGKILL and SIGSTOP of every part under load: none lost, none twice, none invented.

Each ends by reconciling every answer with the rows, and what survived with its metrics (`rig`).
"""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from contract import keys
from contract.settings import STREAM_SHARDS
from tests.adversity.rig import running
from tests.system import eventually

FINE = {201, 202, 204}


async def test_a_collector_that_is_killed(tmp_path: Path) -> None:
    async with running(tmp_path, collectors=2) as rig:
        for collector in rig.collectors:
            await rig.kill(collector)
            await rig.sends(20)
            await collector.start().ready()
        assert rig.statuses() <= FINE, "the other answers"


async def test_a_flusher_that_is_killed(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        for flusher in rig.flushers:
            await rig.kill(flusher)
            await rig.sends(20)
            await flusher.start().ready()
        assert rig.statuses() <= FINE, "front-ends notice nothing of it"


async def test_redis_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        for _ in range(2):
            rig.valkey.kill()
            await asyncio.to_thread(rig.valkey.start)
            await rig.sends(20)
        assert rig.statuses() <= FINE, "a short outage is waited for"


async def test_postgres_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        for _ in range(2):
            rig.postgres.kill()
            await rig.sends(40)
            await asyncio.to_thread(rig.postgres.start)
            await rig.sends(20)
        assert rig.statuses() <= FINE, "front-ends notice nothing of it"


@pytest.mark.long
@pytest.mark.parametrize("order", ["servers first", "processes first"])
async def test_everything_at_once_and_back_in_any_order(tmp_path: Path, order: str) -> None:
    async with running(tmp_path) as rig:
        programs = [*rig.flushers, *rig.collectors]
        for program in programs:
            await rig.kill(program)
        rig.valkey.kill()
        rig.postgres.kill()
        if order == "processes first":
            for program in programs:
                program.start()
        await asyncio.to_thread(rig.postgres.start)
        await asyncio.to_thread(rig.valkey.start)
        if order == "servers first":
            for program in programs:
                program.start()
        await asyncio.gather(*(program.ready() for program in programs))
        await rig.sends(20)
        assert rig.statuses() <= {*FINE, 503}


@pytest.mark.long
async def test_a_flusher_that_is_frozen_past_the_claim_time_and_goes_on(tmp_path: Path) -> None:
    """Another stores what it holds; when it wakes, it stores the same, and nothing is twice."""
    async with running(tmp_path, settings={"FLUSH_MAX_SECONDS": "2"}) as rig:
        sleeper, other = rig.flushers
        for _ in range(2):
            await eventually(partial(_pending_of, rig.redis, sleeper.running.pid))
            sleeper.freeze()
            taken_over = partial(_pending_of, rig.redis, sleeper.running.pid)
            await eventually(taken_over, lambda pending: pending == 0)
            sleeper.thaw()
            await rig.sends(40)
            sleeper, other = other, sleeper
        assert rig.statuses() <= FINE, "front-ends notice nothing of it"


async def test_redis_that_is_frozen_and_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.valkey.freeze()
        await asyncio.wait_for(rig.flushers[0].metrics(), 30)
        await _seconds_pass(2)
        rig.valkey.thaw()
        await rig.sends(20)
        assert rig.statuses() <= FINE


async def _seconds_pass(seconds: float) -> None:
    began = asyncio.get_running_loop().time()

    async def passed() -> bool:
        return asyncio.get_running_loop().time() - began > seconds

    await eventually(passed)


async def _pending_of(redis: Any, pid: int) -> int:
    """How many entries the flusher with this process id holds."""
    pending = 0
    for shard in range(STREAM_SHARDS.read({})):
        for consumer in await redis.xinfo_consumers(keys.stream(shard), keys.GROUP):
            if f"-{pid}-".encode() in consumer["name"]:
                pending += consumer["pending"]
    return pending
