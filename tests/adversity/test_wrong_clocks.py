"""No single clock ends a month, or rejects a record (docs/decisions/0016).

Real processes, one of whose clocks is moved while visitors come. The same visitors are the same
afterwards, by the same salt, and each of their sessions is a row.
"""

import asyncio
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from contract.calendar import SECOND_US
from salt.store import SaltStore
from salt.term import Outcome
from tests.adversity.clocks import ShiftedClock, next_month
from tests.adversity.moved_system import MovedSystem, before_a_months_end, in_mid_month, migrated
from tests.conftest import UTC, Databases
from tests.handbook import blocks
from tests.moved_clock import needs_moved_clock
from tests.system import System, eventually, run_command, run_successfully, until

pytestmark = [needs_moved_clock, pytest.mark.timeout(300)]  # a busy machine starts slowly

DAY_SECONDS = 86_400.0


@pytest.fixture
async def running(databases: Databases, tmp_path: Path) -> AsyncIterator[MovedSystem]:
    """Rotation, a collector and a flusher in the middle of a month."""
    modules = ("rotation", "collector", "flusher")
    async with in_mid_month(tmp_path, *modules, databases=databases) as running:
        yield running


@pytest.mark.parametrize("days", [40, pytest.param(80, marks=pytest.mark.long)])
async def test_the_salts_server_jumps_ahead_and_comes_back(days: int, running: MovedSystem) -> None:
    """It has let the salt expire. No visitor notices; a warning asks for the clock's correction."""
    old = await running.salt()
    assert await running.comes() == 201
    rotation, collector = running.program("rotation"), running.program("collector")

    running.server.move_clock(days * DAY_SECONDS)
    await eventually(running.has_salt, lambda has: not has)
    status, said = await eventually(rotation.readyz, lambda page: page[0] == 503)
    assert "clocks" in said["failed"], (status, said)
    _, said = await eventually(
        collector.readyz, lambda page: "clocks" in page[1].get("warnings", {})
    )
    assert await running.comes() == 201
    assert (await collector.metrics())["impact_clocks_disagree"] == 1
    await eventually(rotation.metrics, lambda found: found["impact_clocks_disagreed_total"] > 0)

    running.server.move_clock(0)
    await eventually(running.has_salt)
    assert await running.salt() == old
    await eventually(rotation.readyz, lambda page: page[0] == 200)
    await eventually(collector.readyz, lambda page: page[1].get("warnings") == {})
    assert await running.comes() == 201
    assert await running.made() == [f"{running.month} first", f"{running.month} restored"]
    await running.all_are_rows_by(old)
    for program in (rotation, collector):
        assert "to_do" in next(line for line in program.log.splitlines() if "contradict" in line), (
            program.log
        )


@pytest.mark.long
async def test_a_later_month_that_began_by_wrong_clocks_is_taken_back(running: MovedSystem) -> None:
    """All clocks of one machine were ahead. No session is accepted that could be no row."""
    assert await running.comes() == 201
    running.server.move_clock(80 * DAY_SECONDS)
    await eventually(running.has_salt, lambda has: not has)
    # No clock contradicts it: this store has none to compare.
    ahead = await SaltStore(running.redis, UTC).ensure()
    assert ahead.outcome is Outcome.ROTATED
    collector = running.program("collector")
    await until(lambda: f"month={ahead.term.month}" in collector.log)
    assert await running.comes() == 201
    running.server.move_clock(0)
    await eventually(running.comes, lambda status: status == 503)
    rotation = running.program("rotation")
    await eventually(rotation.readyz, lambda page: page[0] == 503)

    environment = running.system.environment
    code, output, errors = await run_command("rotation", "rotate", **environment)
    assert code == 1, output
    assert "rotate --force" in output + errors
    (mends,) = blocks("A month that began too early", "sh")
    await run_successfully(*shlex.split(mends)[2:], **environment)
    assert await running.has_salt()
    await eventually(running.comes, lambda status: status == 201)
    # Each that was answered 201 is a row, those of the later month, too.
    rows = await running.rows()
    assert len(rows) == running.callers.answers[201]
    assert {row.month for row in rows} == {running.month.first_day, ahead.term.month.first_day}
    assert f"{running.month} replaced" in await running.made()


async def test_a_forced_rotation_is_refused_while_clocks_contradict_each_other(
    tmp_path: Path,
) -> None:
    async with in_mid_month(tmp_path) as running:
        await SaltStore(running.redis, UTC).ensure()
        old = await running.salt()
        environment = {**running.system.environment, **running.clock.environment(2 * DAY_SECONDS)}
        code, output, errors = await run_command("rotation", "rotate", "--force", **environment)
        assert (code, "clock" in errors) == (1, True), output + errors
        assert await running.salt() == old


async def test_a_flusher_with_a_wrong_clock_rejects_no_record(
    databases: Databases, tmp_path: Path
) -> None:
    async with in_mid_month(tmp_path, "rotation", "collector", databases=databases) as running:
        old = await running.salt()
        flushers = [
            running.system.program("flusher", **running.clock.environment(days * DAY_SECONDS))
            for days in (-60, 3000)
        ]
        for flusher in flushers:
            flusher.start()
            await flusher.ready()
        for person in range(20):
            assert await running.comes(person) == 201
        await running.all_are_rows_by(old)


async def test_a_server_that_is_flushed_gets_its_salt_back(
    running: MovedSystem,
) -> None:
    """From a process that holds it, which is recorded. No visitor is counted twice."""
    old = await running.salt()
    assert await running.comes() == 201
    await running.rows()
    await running.redis.flushall()
    await eventually(running.has_salt)
    assert await running.salt() == old
    assert await running.made() == [f"{running.month} restored"]
    assert await running.comes() == 201
    await running.all_are_rows_by(old)


@pytest.mark.long
async def test_a_salt_that_no_process_holds_any_more_is_reported_as_lost(
    databases: Databases, tmp_path: Path
) -> None:
    """Though to Redis, which knows nothing any more, the new one is the first."""
    async with in_mid_month(tmp_path, "collector", "flusher", databases=databases) as running:
        assert await running.comes() == 201
        assert len(await running.rows()) == 1
        running.program("collector").kill()
        # The server has lost all, also the record of the salt before.
        await running.redis.flushall()
        (rotation,) = await running.system.start("rotation")
        flusher = running.program("flusher")
        assert await running.made() == [f"{running.month} first"]

        async def lost() -> float:
            return (await flusher.metrics())["impact_salts_lost_total"]

        await eventually(lost, lambda lost: lost == 1)
        assert "count twice this month" in flusher.log
        await rotation.stop()
        environment = running.system.environment
        assert "lost" in await run_successfully(
            "flusher", "report", "--format", "json", **environment
        )


@pytest.mark.long
async def test_a_calendar_that_moves_westward_keeps_the_months_salt(
    databases: Databases, tmp_path: Path
) -> None:
    """By rotation's setting the month goes on for hours: so does its salt, past the end that was.

    A collector that still has the other setting says so, counts with everybody else, and is not
    ready if it has just started.
    """
    east, west = ZoneInfo("Europe/Athens"), ZoneInfo("America/Lima")
    month = next_month(east)
    boundary_us = month.ends_us(east)
    dsn = await migrated(databases, west)

    async def start(system: System, _: ShiftedClock) -> None:
        programs = await system.start("rotation", "collector")
        await programs[0].stop()
        moved = system.program("rotation", CALENDAR_TIMEZONE=west.key).start()
        flusher = system.program("flusher", CALENDAR_TIMEZONE=west.key).start()
        await asyncio.gather(moved.ready(), flusher.ready())

    started = before_a_months_end(
        tmp_path, month, seconds=2, start=start, processes=5, zone=east, database_url=dsn
    )
    async with started as running:
        system, clock, collector = running.system, running.clock, running.program("collector")
        old = await running.salt()
        assert await running.comes() == 201
        await eventually(collector.readyz, lambda page: "calendar" in page[1].get("warnings", {}))
        late = system.program("collector").start()
        await clock.reaches(boundary_us + SECOND_US)
        assert await running.salt() == old
        assert await running.comes() == 201
        assert await running.comes() == 201
        assert await running.made() == [f"{month} first"]
        status, said = await eventually(
            late.readyz, lambda page: "calendar" in page[1].get("failed", {})
        )
        assert status == 503, said
        running.zone = west
        await running.all_are_rows_by(old)
        assert (await running.status(CALENDAR_TIMEZONE=west.key))["salt_is_current"] is True
