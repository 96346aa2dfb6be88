"""SIGKILL and SIGSTOP of every part under load: no session is lost, doubled or invented.

Each test ends by reconciling every answer with the rows, and the metrics with each other (`rig`).
"""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from contract import keys
from contract.settings import STREAM_SHARDS
from tests.adversity.rig import FINE, running, seconds_pass
from tests.system import eventually


async def test_each_part_is_killed_and_comes_back(tmp_path: Path) -> None:
    """Front-ends notice none of it: the other collector answers, and a short outage is waited for.
    Redis also freezes, and goes on.
    """
    async with running(tmp_path, collectors=2) as rig:
        for program in (*rig.collectors, *rig.flushers):
            await rig.kill(program)
            await rig.sends(20)
            await program.start().ready()
        assert rig.statuses() <= FINE, "a process was killed"
        for _ in range(2):
            rig.valkey.kill()
            await asyncio.to_thread(rig.valkey.start)
            await rig.sends(20)
        assert rig.statuses() <= FINE, "Redis was killed"
        for _ in range(2):
            rig.postgres.kill()
            await rig.sends(40)
            await asyncio.to_thread(rig.postgres.start)
            await rig.sends(20)
        assert rig.statuses() <= FINE, "PostgreSQL was killed"
        rig.valkey.freeze()
        await asyncio.wait_for(rig.flushers[0].metrics(), 30)
        await seconds_pass(2)
        rig.valkey.thaw()
        await rig.sends(20)
        assert rig.statuses() <= FINE, "Redis was frozen"


async def test_sessions_that_share_an_entry_are_a_row_each_whatever_is_killed(
    tmp_path: Path,
) -> None:
    """They share it under load: here, when Redis goes on and all that waited comes at once."""
    async with running(tmp_path) as rig:
        rig.postgres.freeze()
        rig.valkey.freeze()
        await seconds_pass(2)
        rig.valkey.thaw()
        await eventually(rig.joined)
        for flusher in rig.flushers:  # which hold some of them
            await rig.kill(flusher)
        rig.valkey.kill()
        await asyncio.to_thread(rig.valkey.start)
        rig.postgres.thaw()
        for flusher in rig.flushers:
            await flusher.start().ready()
        assert rig.statuses() <= FINE, "front-ends notice nothing of it"


@pytest.mark.long
@pytest.mark.parametrize("order", ["servers first", "processes first"])
async def test_everything_is_killed_at_once_and_comes_back_in_any_order(
    tmp_path: Path, order: str
) -> None:
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
async def test_a_flusher_that_is_frozen_beyond_the_claim_time_and_goes_on(tmp_path: Path) -> None:
    """Another stores what it holds. Then it wakes and stores the same: no row is doubled."""
    async with running(tmp_path, settings={"FLUSH_MAX_SECONDS": "2"}) as rig:
        for sleeper in rig.flushers:
            pending = partial(_pending_of, rig.redis, sleeper.running.pid)
            await eventually(pending)
            sleeper.freeze()
            await eventually(pending, lambda entries: entries == 0)
            sleeper.thaw()
            await rig.sends(40)
        assert rig.statuses() <= FINE, "front-ends notice nothing of it"


async def _pending_of(redis: Any, pid: int) -> int:
    """How many entries the flusher with this process id holds."""
    pending = 0
    for shard in range(STREAM_SHARDS.read({})):
        for consumer in await redis.xinfo_consumers(keys.stream(shard), keys.GROUP):
            if f"-{pid}-".encode() in consumer["name"]:
                pending += consumer["pending"]
    return pending
