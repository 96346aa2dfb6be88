"""No byte of a salt that is over is left in the memory of any process, within thirty seconds.

All processes run, with visitors who come and go, and each byte that they have written is looked at.
None of the visitors notices.
"""

import asyncio
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bench.load.reconcile import settle
from contract.calendar import SECOND_US, month_at
from runtime.clock import wall_clock
from runtime.redis_client import connect_redis
from tests.adversity.clocks import (
    Callers,
    ShiftedClock,
    ShiftedValkey,
    next_month,
    system_before,
)
from tests.adversity.test_month_boundary import Load, salt_of
from tests.conftest import Databases
from tests.memory import needs_memory, pieces
from tests.moved_clock import needs_moved_clock
from tests.servers import EMBEDDED, Flavour, flavours, run_servers
from tests.system import Program, System, eventually, run_command

pytestmark = [needs_memory, pytest.mark.timeout(300)]

UTC = ZoneInfo("UTC")
WITHIN_SECONDS = 30.0
PROCESSES = ("rotation", "collector", "collector", "flusher")
RESTARTS = "restarting in place"


def left_in(salt: bytes, pids: dict[str, int]) -> dict[str, Counter[str]]:
    """Of each process in whose memory something of a salt is, what."""
    found = {name: pieces(salt, pid) for name, pid in pids.items()}
    return {name: some for name, some in found.items() if some}


def pids_of(programs: list[Program]) -> dict[str, int]:
    return {
        f"{program.module} {index}": program.running.pid for index, program in enumerate(programs)
    }


async def is_gone(salt: bytes, pids: dict[str, int], seconds: float) -> None:
    order = list(pids)

    async def left() -> dict[str, Counter[str]]:
        """In the first of them that has any, which is the first to be looked at the next time:
        each takes half a second of a processor.
        """
        for name in list(order):
            if found := await asyncio.to_thread(left_in, salt, {name: pids[name]}):
                order.sort(key=lambda other: other != name)
                return found
        return {}

    await eventually(left, lambda found: not found, seconds)


async def restarted(collectors: list[Program]) -> bool:
    return all(RESTARTS in collector.log for collector in collectors)


def collectors_restarted(programs: list[Program]) -> None:
    for program in programs:
        assert program.running.poll() is None, program.log
        assert program.module != "collector" or RESTARTS in program.log, program.log
        assert "Traceback" not in program.log


@pytest.mark.parametrize(
    "flavour",
    [
        pytest.param(each, id=each.name, marks=() if each is EMBEDDED else pytest.mark.long)
        for each in flavours()
    ],
)
async def test_after_a_forced_rotation_nothing_is_left_in_any_process(
    flavour: Flavour, tmp_path: Path
) -> None:
    with run_servers(flavour, tmp_path) as servers:
        dsn = servers.postgres.dsn()
        with System(servers.redis.url, dsn, tmp_path / "logs") as system:
            code, _, errors = await run_command("flusher", "migrate", **system.environment)
            assert code == 0, errors
            code, _, errors = await run_command("rotation", "rotate", **system.environment)
            assert code == 0, errors
            programs = await system.start(*PROCESSES)
            pids = pids_of(programs) | {"redis": servers.redis.pid}
            clock = ShiftedClock(0.0)
            callers = Callers(clock)
            forever = wall_clock() + 3600 * SECOND_US
            load = Load(callers, clock, system.url)
            loading = asyncio.create_task(load.run(forever, forever))
            async with connect_redis(system.redis_url) as redis:
                old = await salt_of(redis, month_at(wall_clock(), UTC))

            holders = {name: pids[name] for name in ("collector 1", "collector 2", "redis")}

            async def held() -> int:
                return len(left_in(old, holders))

            await eventually(held, lambda number: number == len(holders))
            code, _, errors = await run_command(
                "rotation", "rotate", "--force", **system.environment
            )
            assert code == 0, errors
            # Before that there is no need to look, which takes a second of a processor.
            await eventually(lambda: restarted(programs[1:3]))
            await is_gone(old, pids, WITHIN_SECONDS)
            for program in programs:
                await program.ready()
            load.stopped = True
            await loading
            collectors_restarted(programs)
            assert set(callers.answers) == {201, 202}, callers.answers
            found = await settle(callers.sent_log, dsn, UTC, patience_seconds=60)
            # But that who came before and came again is counted twice, which is known.
            assert (found.lost, found.twice, found.invented) == (0, 0, 0), found.examples
            assert found.expected == found.found


@needs_moved_clock
@pytest.mark.long
async def test_after_a_months_end_nothing_is_left_in_any_process(
    databases: Databases, tmp_path: Path
) -> None:
    """Nor in that of a replica, which follows from before the salt was made."""
    month = next_month(UTC)
    boundary_us = month.ends_us(UTC)
    dsn = await databases.create()
    code, _, errors = await run_command("flusher", "migrate", DATABASE_URL=dsn)
    assert code == 0, errors
    with ExitStack() as stack:
        replicas: list[ShiftedValkey] = []

        async def start(system: System, clock: ShiftedClock) -> list[Program]:
            primary = system.redis_url.rpartition(":")[2].partition("/")[0]
            replica = ShiftedValkey(
                tmp_path / f"replica-{len(replicas)}",
                clock,
                config={"replicaof": f"127.0.0.1 {primary}"},
            )
            replicas.append(stack.enter_context(replica))
            async with connect_redis(replica.url) as copy:
                await eventually(
                    lambda: copy.info("replication"),
                    lambda info: info["master_link_status"] == "up",
                )
            return await system.start(*PROCESSES)

        started = system_before(
            tmp_path, UTC, boundary_us, seconds=8, start=start, processes=6, database_url=dsn
        )
        async with started as (system, server, clock, programs):
            pids = pids_of(programs) | {"redis": server.pid, "replica": replicas[-1].pid}
            callers = Callers(clock)
            until_us = boundary_us + int((WITHIN_SECONDS + 2) * SECOND_US)
            load = asyncio.create_task(Load(callers, clock, system.url).run(boundary_us, until_us))
            async with connect_redis(server.url) as redis:
                old = await salt_of(redis, month)
            assert {"collector 1", "collector 2", "redis", "replica"} <= set(left_in(old, pids))
            await clock.reaches(boundary_us)
            left_us = boundary_us + int(WITHIN_SECONDS * SECOND_US) - clock.now_us()
            await is_gone(old, pids, left_us / SECOND_US)
            await load
            assert not left_in(old, pids)
            collectors_restarted(programs)
            assert set(callers.answers) == {201, 202}, callers.answers
            differences = await settle(callers.sent_log, dsn, UTC, patience_seconds=60)
            assert differences.exact, (differences, differences.examples)
