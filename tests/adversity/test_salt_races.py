"""One month has one salt, whatever races, has a wrong clock, is killed or loses it."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from contract import keys
from contract.calendar import SECOND_US, from_us
from salt.store import SaltStore
from salt.term import Outcome
from tests.adversity.callers import PEOPLE_A_CONNECTION, Load
from tests.adversity.clocks import ShiftedClock, next_month
from tests.adversity.moved_system import (
    MovedSystem,
    before_a_months_end,
    in_mid_month,
    migrated,
)
from tests.conftest import UTC as ZONE
from tests.conftest import Databases
from tests.moved_clock import needs_moved_clock
from tests.system import (
    Program,
    System,
    eventually,
    find_free_port,
    run_command,
    run_successfully,
    until,
)

pytestmark = [needs_moved_clock, pytest.mark.timeout(300)]  # a busy machine starts slowly

DAY_SECONDS = 86_400.0
ROTATIONS_AHEAD = (0, 0, 0, 0, DAY_SECONDS, DAY_SECONDS, -DAY_SECONDS, -DAY_SECONDS)
COLLECTORS_AHEAD = (*[0] * 6, *[DAY_SECONDS] * 3, *[-DAY_SECONDS] * 3)


@pytest.mark.long
async def test_twenty_processes_race_at_a_months_end(databases: Databases, tmp_path: Path) -> None:
    """Eight of rotation and twelve collectors, some with clocks a day ahead or behind.

    There is one salt, and one hash for each visitor and month in all that they stored, always of
    the month by the salt server's clock.
    """
    dsn = await migrated(databases)
    month = next_month(ZONE)
    later = month.plus(1)
    boundary_us = month.ends_us(ZONE)
    started = before_a_months_end(
        tmp_path, month, seconds=3, start=start_racers, processes=21, database_url=dsn
    )
    async with started as moved:
        callers, clock = moved.callers, moved.clock
        store = SaltStore(moved.redis, ZONE)
        old = await moved.salt()
        loads = [
            asyncio.create_task(
                Load(callers, clock, f"http://127.0.0.1:{collector.environment['PORT']}", 1).run(
                    boundary_us, boundary_us + 4 * SECOND_US
                )
            )
            for collector in moved.programs("collector")
        ]
        await clock.reaches(boundary_us)
        await eventually(store.salt_keys, lambda left: left == [keys.salt(later)])
        await asyncio.gather(*loads)
        rows = await moved.all_are_rows_by(old, await moved.salt(1))
        assert await store.salt_keys() == [keys.salt(later)]
        assert await store.recorded_month() == later
        assert await moved.made() == [f"{month} first", f"{later} rotated"]
        # Eight dispose of the earlier salt at once, and do not disturb each other.
        await eventually(lambda: moved.files_with(old), lambda files: files == [])
        await eventually(lambda: moved.redis.exists(keys.DISPOSAL_DUE), lambda due: due == 0)
        for program in moved.system.programs:
            assert program.running.poll() is None, program.log
    for of in (month, later):
        came = sum(row.month == of.first_day for row in rows)
        assert came >= len(COLLECTORS_AHEAD) * PEOPLE_A_CONNECTION


async def start_racers(system: System, clock: ShiftedClock) -> None:
    """A few at a time, each with its own clock; and a flusher."""
    programs = [system.program("flusher")]
    programs += [
        system.program("rotation", **clock.environment(ahead)) for ahead in ROTATIONS_AHEAD
    ]
    programs += [
        system.program("collector", PORT=str(find_free_port()), **clock.environment(ahead))
        for ahead in COLLECTORS_AHEAD
    ]
    for together in (programs[:7], programs[7:14], programs[14:]):
        for program in together:
            program.start()
        await asyncio.gather(*(program.ready() for program in together))


@pytest.mark.long
async def test_a_server_that_hangs_over_a_months_end(databases: Databases, tmp_path: Path) -> None:
    """A collector that gets no answer does not go on with the salt of a month that is over.

    Visitors who come meanwhile wait, and are counted with the new salt.
    """
    month = next_month(ZONE)
    boundary_us = month.ends_us(ZONE)
    started = before_a_months_end(
        tmp_path,
        month,
        seconds=2,
        start=lambda system, _: system.start("collector", "flusher"),
        processes=2,
        database_url=await migrated(databases),
    )
    async with started as moved:
        callers = moved.callers
        old = await moved.salt()
        load = Load(callers, moved.clock, moved.system.url)
        coming: list[asyncio.Task[Any]] = [
            asyncio.create_task(load.run(boundary_us, boundary_us + 60 * SECOND_US))
        ]
        await moved.clock.reaches(boundary_us - SECOND_US // 2)
        moved.server.freeze()
        # The visitors above wait for their answers by now: others come when the month is over.
        for number, tenths in enumerate(range(2, 12, 2)):
            await moved.clock.reaches(boundary_us + SECOND_US * tenths // 10)
            coming.append(asyncio.create_task(moved.comes(1000 + number)))
        moved.server.thaw()
        answered = callers.answers[201]
        await until(lambda: callers.answers[201] > answered + 100)
        load.stopped = True
        await asyncio.gather(*coming)
        await moved.all_are_rows_by(old, await moved.salt(1))


async def test_a_salt_that_was_deleted_by_hand_is_made_anew_and_reported(
    databases: Databases, tmp_path: Path
) -> None:
    """Both collectors go on with one new salt by themselves. The log, the status and the database
    (for reports) say what happened.
    """
    modules = ("rotation", "collector", "collector", "flusher")
    started = in_mid_month(tmp_path, *modules, databases=databases, apart=True)
    async with started as moved:
        month, system, clock = moved.month, moved.system, moved.clock
        old = await moved.salt()
        for collector in moved.programs("collector"):
            await expect_hash(moved, collector, old)
        deleted_us = clock.now_us()
        assert await moved.redis.delete(keys.salt(month)) == 1

        await eventually(moved.has_salt)
        new = await moved.salt()
        assert new != old
        for collector in moved.programs("collector"):
            await eventually(partial(salts_taken, collector), lambda taken: taken >= 2)
            await expect_hash(moved, collector, new)
        assert await moved.salt() == new
        assert await moved.made() == [f"{month} first", f"{month} lost"]
        assert set(moved.callers.answers) == {201}, moved.callers.answers
        says_so(system.logs)

        status = await moved.status()
        assert status["salt_is_current"] is True
        made_at = datetime.fromisoformat(status["salt_made_at"])
        assert from_us(deleted_us) <= made_at <= from_us(clock.now_us())
        assert status["salt_made_because"] == "lost"
        output = await run_successfully("rotation", "status", **system.environment)
        assert "count twice this month" in output

        database = await asyncpg.connect(system.database_url)
        query = "SELECT outcome, made_at FROM flusher.salts WHERE month = $1 ORDER BY made_at"
        noted = await eventually(
            lambda: database.fetch(query, month.first_day), lambda rows: len(rows) == 2
        )
        await database.close()
        assert [row["outcome"] for row in noted] == ["first", "lost"]
        made_at = noted[1]["made_at"].astimezone(UTC)
        assert from_us(deleted_us) <= made_at <= from_us(clock.now_us())


async def test_rotation_reports_a_lost_salt_that_it_finds_itself(tmp_path: Path) -> None:
    async with in_mid_month(tmp_path) as moved:
        await SaltStore(moved.redis, ZONE).ensure()
        assert await moved.redis.delete(keys.salt(moved.month)) == 1
        code, output, log = await run_command("rotation", "rotate", **moved.system.environment)
        assert (code, "count twice this month" in output) == (0, True), output
        says_so(log)
        assert await moved.made() == [f"{moved.month} first", f"{moved.month} lost"]


async def test_a_salt_ends_with_its_month_though_no_process_runs(tmp_path: Path) -> None:
    """The server itself lets it expire. The first process that comes removes it from the files."""
    month = next_month(ZONE)
    started = before_a_months_end(
        tmp_path, month, seconds=2, start=lambda system, _: system.start(), processes=0
    )
    async with started as moved:
        redis, store = moved.redis, SaltStore(moved.redis, ZONE)
        ensured = await store.ensure()
        assert (ensured.outcome, ensured.term.month) == (Outcome.FIRST, month)
        old = await moved.salt()
        keys_before = await redis.dbsize()
        await moved.clock.reaches(month.ends_us(ZONE))
        # Counted, not read: reading an expired key deletes it.
        await eventually(redis.dbsize, lambda count: count == keys_before - 1)
        assert (await redis.info("stats"))["expired_keys"] == 1
        assert await store.salt_keys() == []

        assert await moved.files_with(old), "no process rewrites the append-only file"
        output = await run_successfully("rotation", "rotate", **moved.system.environment)
        assert "earlier one destroyed" in output
        await eventually(lambda: moved.files_with(old), lambda files: files == [])
        assert await store.salt_keys() == [keys.salt(month.plus(1))]


async def expect_hash(moved: MovedSystem, collector: Program, salt: bytes) -> None:
    """A visitor's session through a collector becomes a row whose hash is by a salt."""
    assert await moved.comes(collector=collector) == 201
    session = moved.callers.sent_log.sessions[-1]
    hashes = {row.id: row.hash for row in await moved.rows()}
    assert hashes[session.id] == moved.callers.hash_with(salt, session, as_user=False)


async def salts_taken(collector: Program) -> int:
    """How often a collector has logged that it has a salt."""
    lines = ("no salt was recorded", "has its salt", "was replaced within", "salt was lost")
    return sum(collector.log.count(words) for words in lines)


def says_so(log: str) -> None:
    errors = [line for line in log.splitlines() if "[error" in line]
    assert any("salt was lost" in line for line in errors), log
    assert any("count twice this month" in line for line in errors), log
