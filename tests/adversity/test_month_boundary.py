"""The whole system goes through a month's end under load: no visitor notices, and the salt is gone.

All of it, except PostgreSQL, lives by one shifted clock that comes to a month's end while visitors
come and go. They are the same before and after it.
"""

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bench.load.reconcile import Row, read_rows, settle
from bench.load.sent_log import Outcome, Who
from contract import keys
from contract.calendar import SECOND_US, Month, month_at
from salt.store import SaltStore
from tests.adversity.callers import PEOPLE_A_CONNECTION, Callers, Load
from tests.adversity.clocks import next_month
from tests.adversity.moved_system import before_a_months_end, migrated
from tests.conftest import Databases
from tests.moved_clock import needs_moved_clock
from tests.system import System, eventually, run_command

pytestmark = [needs_moved_clock, pytest.mark.long, pytest.mark.timeout(300)]

AFTER_SECONDS = 6
KILLED_BEFORE_SECONDS = 2
CONNECTIONS = 12


@pytest.mark.parametrize(
    ("zone_name", "number", "rotation_lives"),
    [
        pytest.param("Europe/Brussels", 3, True, id="Brussels, as daylight saving has begun"),
        pytest.param("Pacific/Kiritimati", None, True, id="Kiritimati, 14 hours ahead of UTC"),
        pytest.param("UTC", None, False, id="UTC, rotation killed"),
    ],
)
async def test_a_months_end_under_load(
    zone_name: str,
    number: int | None,
    rotation_lives: bool,  # noqa: FBT001 - a parameter of the test
    databases: Databases,
    tmp_path: Path,
) -> None:
    """No 5xx, no lost session, each month by its own salt, and the old one gone in time.

    In time is within five seconds if rotation runs, and within sixty if it does not. Searched are
    the keys, every file of the server and its slow log; `test_salt_memory.py` searches memory.
    """
    zone = ZoneInfo(zone_name)
    month = next_month(zone, number)
    later = month.plus(1)
    boundary_us = month.ends_us(zone)
    dsn = await migrated(databases, zone)
    modules = ("rotation", "collector", "collector", "flusher", "flusher")
    started = before_a_months_end(
        tmp_path,
        month,
        seconds=6,
        start=lambda system, _: system.start(*modules),
        processes=len(modules),
        zone=zone,
        database_url=dsn,
    )
    async with started as moved:
        callers, clock, collectors = moved.callers, moved.clock, moved.programs("collector")
        store = SaltStore(moved.redis, zone)
        load = Load(callers, clock, moved.system.url, CONNECTIONS)
        loading = asyncio.create_task(
            load.run(boundary_us, boundary_us + AFTER_SECONDS * SECOND_US)
        )
        old = await moved.salt()
        assert await store.salt_keys() == [keys.salt(month)]
        await eventually(lambda: moved.files_with(old), bool)
        if not rotation_lives:
            await clock.reaches(boundary_us - KILLED_BEFORE_SECONDS * SECOND_US)
            moved.program("rotation").kill()
        await clock.reaches(boundary_us)
        for collector in collectors:  # their counters start anew after it
            accepted = (await collector.metrics())['impact_accepted_total{kind="session"}']
            assert accepted > 0, "it took no part"

        # The key goes at once: a collector needs that time to see that the month is over.
        await eventually(store.salt_keys, lambda left: left == [keys.salt(later)], 2)
        assert await store.recorded_month() == later
        new = await moved.salt(1)
        # Its bytes go, too.
        limit_us = (5 if rotation_lives else 60) * SECOND_US
        left_us = boundary_us + limit_us - clock.now_us()
        await eventually(
            lambda: moved.files_with(old), lambda files: files == [], left_us / SECOND_US
        )
        slow = await moved.redis.slowlog_get(1000)
        assert not any(old in bytes(entry["command"]) for entry in slow)
        await loading
        # Each collector has dropped it: it logs the new one, and is ready by it.
        for collector in collectors:
            assert f"month={later}" in collector.log, collector.log
            await collector.ready()

        differences = await settle(callers.sent_log, dsn, zone, patience_seconds=60)
        assert differences.exact, (differences, differences.examples)
        await eventually(moved.unstored, lambda left: left == 0)
        await eventually(lambda: status_of_salts(moved.system), is_clean)
    assert set(callers.answers) == {201, 202}, callers.answers
    rows = await read_rows(callers.sent_log, dsn)
    check_rows(rows, callers, zone, {month: old, later: new})


def check_rows(
    rows: list[Row], callers: Callers, zone: ZoneInfo, salts: dict[Month, bytes]
) -> None:
    """Every row is of the month that it was created in, and its hash is by that month's salt."""
    hashes: dict[tuple[bool, int, str], dict[Month, set[bytes]]] = defaultdict(
        lambda: defaultdict(set)
    )
    upgraded_after = 0
    for row in rows:
        session = callers.sent_log.find(row.id)
        assert session is not None
        month = month_at(row.created_us, zone)
        assert row.month == month.first_day
        upgraded_in = None if row.upgraded_us is None else month_at(row.upgraded_us, zone)
        if session.upgrade.outcome is Outcome.ACCEPTED:
            assert upgraded_in is not None
            assert row.role == session.role
        if upgraded_in not in (None, month):
            upgraded_after += 1
        as_user = session.who is Who.USER or upgraded_in == month
        assert row.hash == callers.hash_with(salts[month], session, as_user=as_user)
        person = (as_user, session.visitor, session.site)
        hashes[person][month].add(row.hash)
    assert upgraded_after >= CONNECTIONS, "sessions that began before the end, upgraded after it"
    people = CONNECTIONS * PEOPLE_A_CONNECTION * len(callers.SITES)
    came_in_both = [of for of in hashes.values() if len(of) == len(salts)]
    assert len(came_in_both) >= people, "the same people in both months"
    for of_person in hashes.values():
        assert all(len(of_month) == 1 for of_month in of_person.values())
    for of_person in came_in_both:
        assert len(set.union(*of_person.values())) == len(salts), (
            "a person has another hash in the next month"
        )


async def status_of_salts(system: System) -> dict[str, object]:
    code, output, errors = await run_command("rotation", "status", "--json", **system.environment)
    assert code == 0, errors
    status: dict[str, object] = json.loads(output)
    return status


def is_clean(status: dict[str, object]) -> bool:
    return (
        status["salt_is_current"] is True
        and status["earlier_salts"] == []
        and status["disposal_due_since"] is None
    )
