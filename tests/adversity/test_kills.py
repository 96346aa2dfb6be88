"""SIGKILL and SIGSTOP of every part under load: no session is lost, doubled or invented.

Each test ends by reconciling every answer with the rows, and the metrics with each other (`rig`).
"""

import asyncio
from pathlib import Path

import pytest

from tests.adversity.rig import FINE, running, seconds_pass


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
