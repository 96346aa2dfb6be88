"""No byte of a salt that is over is left in the memory of any process, within thirty seconds.

All processes run, with visitors who come and go, and each byte of their memory is searched. None of
the visitors notices.
"""

import asyncio
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.load.reconcile import settle
from contract import keys
from contract.calendar import SECOND_US, month_at
from runtime.clock import wall_clock
from runtime.redis_client import connect_redis
from tests.adversity.callers import Callers, Load
from tests.adversity.clocks import ShiftedClock, ShiftedValkey, next_month
from tests.adversity.moved_system import before_a_months_end, migrated
from tests.conftest import UTC, Databases
from tests.memory import needs_memory, pieces
from tests.moved_clock import needs_moved_clock
from tests.servers import EMBEDDED, Flavour, flavours, run_servers
from tests.system import Program, System, eventually, run_successfully, until

pytestmark = [needs_memory, pytest.mark.timeout(300)]

WITHIN_SECONDS = 30
PROCESSES = ("rotation", "collector", "collector", "flusher")
RESTARTS = "restarting in place"


def left_in(salt: bytes, pids: dict[str, int]) -> dict[str, Counter[str]]:
    """The pieces of a salt in each process whose memory has any."""
    found = {name: pieces(salt, pid) for name, pid in pids.items()}
    return {name: some for name, some in found.items() if some}


def pids_of(programs: list[Program]) -> dict[str, int]:
    return {
        f"{program.module} {index}": program.running.pid for index, program in enumerate(programs)
    }


async def is_gone(salt: bytes, pids: dict[str, int], seconds: float) -> None:
    order = list(pids)

    async def left() -> dict[str, Counter[str]]:
        """In the first process that has any, which is searched first the next time: each search
        takes half a second of a processor.
        """
        for name in list(order):
            if found := await asyncio.to_thread(left_in, salt, {name: pids[name]}):
                order.sort(key=lambda other: other != name)
                return found
        return {}

    await eventually(left, lambda found: not found, seconds)


def check_restarts(programs: list[Program]) -> None:
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
            for command in (("flusher", "migrate"), ("rotation", "rotate")):
                await run_successfully(*command, **system.environment)
            programs = await system.start(*PROCESSES)
            pids = pids_of(programs) | {"redis": servers.redis.pid}
            clock = ShiftedClock(0.0)
            callers = Callers(clock)
            forever = wall_clock() + 3600 * SECOND_US
            load = Load(callers, clock, system.url)
            loading = asyncio.create_task(load.run(forever, forever))
            async with connect_redis(system.redis_url) as redis:
                old = await redis.get(keys.salt(month_at(wall_clock(), UTC)))
            assert isinstance(old, bytes)
            holders = {name: pids[name] for name in ("collector 1", "collector 2", "redis")}

            await until(lambda: len(left_in(old, holders)) == len(holders))
            await run_successfully("rotation", "rotate", "--force", **system.environment)
            # A search before that would cost time for nothing.
            await until(lambda: all(RESTARTS in each.log for each in programs[1:3]))
            await is_gone(old, pids, WITHIN_SECONDS)
            for program in programs:
                await program.ready()
            load.stopped = True
            await loading
            check_restarts(programs)
            assert set(callers.answers) == {201, 202}, callers.answers
            found = await settle(callers.sent_log, dsn, UTC, 60, aftermath_seconds=0.5)
            # Visitors who came before and came again have two hashes, which is documented.
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
    dsn = await migrated(databases)
    with ExitStack() as stack:
        replicas: list[ShiftedValkey] = []

        async def start(system: System, clock: ShiftedClock) -> None:
            primary = system.redis_url.rpartition(":")[2].partition("/")[0]
            config = {"replicaof": f"127.0.0.1 {primary}"}
            folder = tmp_path / f"replica-{len(replicas)}"
            replica = stack.enter_context(ShiftedValkey(folder, clock, config=config))
            replicas.append(replica)
            async with connect_redis(replica.url) as copy:
                await eventually(
                    lambda: copy.info("replication"),
                    lambda info: info["master_link_status"] == "up",
                )
            await system.start(*PROCESSES)

        started = before_a_months_end(
            tmp_path, month, seconds=8, start=start, processes=6, database_url=dsn
        )
        async with started as moved:
            programs, callers, clock = moved.system.programs, moved.callers, moved.clock
            pids = pids_of(programs) | {"redis": moved.server.pid, "replica": replicas[-1].pid}
            until_us = boundary_us + (WITHIN_SECONDS + 2) * SECOND_US
            load = Load(callers, clock, moved.system.url)
            loading = asyncio.create_task(load.run(boundary_us, until_us))
            old = await moved.salt()
            assert {"collector 1", "collector 2", "redis", "replica"} <= set(left_in(old, pids))
            await clock.reaches(boundary_us)
            left_us = boundary_us + WITHIN_SECONDS * SECOND_US - clock.now_us()
            await is_gone(old, pids, left_us / SECOND_US)
            await loading
            assert not left_in(old, pids)
            check_restarts(programs)
            await moved.all_are_rows_by(old, await moved.salt(1))
