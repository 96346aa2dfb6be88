"""The whole system goes through a month's end under load: no visitor notices, and the salt is gone.

All of it, except PostgreSQL, lives by one shifted clock that comes to a month's end while visitors
come and go. They are the same before and after it.
"""

import asyncio
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from contract import keys
from contract.calendar import SECOND_US
from salt.store import SaltStore
from tests.adversity.callers import PEOPLE_A_CONNECTION, Load
from tests.adversity.clocks import next_month
from tests.adversity.moved_system import before_a_months_end, migrated
from tests.conftest import Databases
from tests.moved_clock import needs_moved_clock
from tests.system import eventually

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

        rows = await moved.all_are_rows_by(old, new)
        await eventually(moved.status, is_clean)
    upgraded_after = [
        row for row in rows if moved.upgraded_in(row) == later and row.month == month.first_day
    ]
    assert len(upgraded_after) >= CONNECTIONS, "sessions that began before the end"
    months: dict[tuple[int, str], set[date]] = defaultdict(set)
    for row in rows:
        session = callers.sent_log.find(row.id)
        assert session is not None
        months[session.visitor, session.site].add(row.month)
    assert len(months) == CONNECTIONS * PEOPLE_A_CONNECTION * len(callers.SITES)
    assert all(len(each) == 2 for each in months.values()), "the same people in both months"


def is_clean(status: dict[str, Any]) -> bool:
    return (
        status["salt_is_current"] is True
        and status["earlier_salts"] == []
        and status["disposal_due_since"] is None
    )
