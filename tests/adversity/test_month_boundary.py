"""The whole system goes through a month's end under load: nobody notices, and the salt is gone.

All of it, but for PostgreSQL, lives by one shifted clock that comes to a month's end while visitors
come and go. They are the same before and after it.
"""

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from redis.asyncio import Redis

from bench.load.client import Address, Client, Connection
from bench.load.reconcile import Row, read_rows, settle
from bench.load.sent_log import Outcome, Who
from contract import keys
from contract.calendar import SECOND_US, Month, month_at
from contract.settings import STREAM_SHARDS
from runtime.redis_client import connect_redis
from salt.store import SaltStore
from tests.adversity.clocks import (
    Callers,
    ShiftedClock,
    ShiftedValkey,
    next_month,
    system_before,
)
from tests.conftest import Databases
from tests.leftovers import files_with
from tests.moved_clock import needs_moved_clock
from tests.system import System, eventually, run_command

pytestmark = [needs_moved_clock, pytest.mark.timeout(300)]  # a busy machine starts slowly

BEFORE_SECONDS = 6.0
AFTER_SECONDS = 6.0
KILLED_BEFORE_SECONDS = 2.0
CONNECTIONS = 12
# Which of the collectors has a connection is the kernel's choice, by the client's port: of a dozen
# that stayed open all might be one's.
TURNS_A_CONNECTION = 10
PEOPLE_A_CONNECTION = 4
PAUSE_SECONDS = 0.04


class Load:
    """Visitors and users who come again and again until an instant, or until told to stop."""

    def __init__(self, callers: Callers, clock: ShiftedClock, url: str) -> None:
        self.stopped = False
        self.callers = callers
        self._clock = clock
        self._url = url

    async def run(self, boundary_us: int, until_us: int) -> None:
        async with Client(Address.parse(self._url), CONNECTIONS, 60.0) as client:
            await asyncio.gather(
                *(
                    self._come_and_go(connection, index, boundary_us, until_us)
                    for index, connection in enumerate(client)
                )
            )

    async def _come_and_go(
        self, connection: Connection, index: int, boundary_us: int, until_us: int
    ) -> None:
        """One of four signs in at once, one after the month's end, one never, one already has."""
        callers, signing_in_later = self.callers, list[int]()
        turn = 0
        while not self.stopped and self._clock.now_us() < until_us:
            person = index * PEOPLE_A_CONNECTION + turn // 2 % PEOPLE_A_CONNECTION
            what = turn // (2 * PEOPLE_A_CONNECTION) % 4
            who = Who.USER if what == 3 else Who.VISITOR
            number, _ = await callers.start(connection, who, person, turn % 2)
            if what == 0:
                await callers.upgrade(connection, number)
            elif what == 1 and self._clock.now_us() < boundary_us:
                signing_in_later.append(number)
            if signing_in_later and self._clock.now_us() > boundary_us:
                await callers.upgrade(connection, signing_in_later.pop())
            turn += 1
            if turn % TURNS_A_CONNECTION == 0:
                connection.close()
            await asyncio.sleep(PAUSE_SECONDS)  # the pace of the visits


@pytest.mark.parametrize(
    ("zone_name", "number", "rotation_lives"),
    [
        pytest.param(
            "Europe/Brussels",
            3,
            True,
            id="Brussels, as daylight saving has begun",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "Pacific/Kiritimati",
            None,
            True,
            id="Kiritimati, 14 hours ahead of UTC",
            marks=pytest.mark.long,
        ),
        pytest.param("UTC", None, False, id="UTC, rotation killed", marks=pytest.mark.long),
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

    In time is within five seconds where rotation runs, and within sixty where it does not. What is
    looked at are the keys, every file of the server and its slow log; memory is looked at in
    `test_salt_memory.py`.
    """
    zone = ZoneInfo(zone_name)
    month = next_month(zone, number)
    later = month.plus(1)
    boundary_us = month.ends_us(zone)
    dsn = await databases.create()
    code, _, errors = await run_command(
        "flusher", "migrate", DATABASE_URL=dsn, CALENDAR_TIMEZONE=zone.key
    )
    assert code == 0, errors
    started = system_before(
        tmp_path,
        zone,
        boundary_us,
        seconds=BEFORE_SECONDS,
        start=lambda system, _: system.start(
            "rotation", "collector", "collector", "flusher", "flusher"
        ),
        processes=5,
        database_url=dsn,
    )
    async with started as (system, server, clock, (rotation, first, second, *_)):
        callers = Callers(clock)
        async with connect_redis(server.url) as redis:
            store = SaltStore(redis, zone)
            load = asyncio.create_task(
                Load(callers, clock, system.url).run(
                    boundary_us, boundary_us + int(AFTER_SECONDS * SECOND_US)
                )
            )
            old = await salt_of(redis, month)
            assert await store.salt_keys() == [keys.salt(month)]
            await eventually(lambda: left_in_files(server, old), bool)
            if not rotation_lives:
                await clock.reaches(boundary_us - int(KILLED_BEFORE_SECONDS * SECOND_US))
                rotation.kill()
            await clock.reaches(boundary_us)
            for collector in (first, second):  # their counters start anew after it
                accepted = (await collector.metrics())['impact_accepted_total{kind="session"}']
                assert accepted > 0, "it took no part"

            # The key, at once: what a collector needs to see that the month is over.
            await eventually(store.salt_keys, lambda left: left == [keys.salt(later)], 2)
            assert await store.recorded_month() == later
            new = await salt_of(redis, later)
            # And its bytes.
            limit_us = (5 if rotation_lives else 60) * SECOND_US
            left_us = boundary_us + limit_us - clock.now_us()
            await eventually(
                lambda: left_in_files(server, old), lambda files: files == [], left_us / SECOND_US
            )
            assert not await slow_log_has(redis, old)
            await load
            # Each collector has let go of it: it says so, and is ready by the new one.
            for collector in (first, second):
                assert f"month={later}" in collector.log, collector.log
                await collector.ready()

            differences = await settle(callers.sent_log, dsn, zone, patience_seconds=60)
            assert differences.exact, (differences, differences.examples)
            await eventually(lambda: entries_left(redis), lambda left: left == 0)
            await eventually(lambda: status_of_salts(system), is_clean)
    assert set(callers.answers) == {201, 202}, callers.answers
    rows = await read_rows(callers.sent_log, dsn)
    check_rows(rows, callers, zone, {month: old, later: new})


def check_rows(
    rows: list[Row], callers: Callers, zone: ZoneInfo, salts: dict[Month, bytes]
) -> None:
    """Every row is of the month that it was created in, and its hash is by that month's salt."""
    sent_log = callers.sent_log
    hashes: dict[tuple[bool, int, int], dict[Month, set[bytes]]] = defaultdict(
        lambda: defaultdict(set)
    )
    upgraded_after = 0
    for row in rows:
        number = sent_log.number_of(row.id)
        assert number is not None
        month = month_at(row.created_us, zone)
        assert row.month == month.first_day
        upgraded_in = None if row.upgraded_us is None else month_at(row.upgraded_us, zone)
        if sent_log.upgrade_outcome(number) is Outcome.ACCEPTED:
            assert upgraded_in is not None
            assert row.role == sent_log.role_of(sent_log.user(number))
        if upgraded_in not in (None, month):
            upgraded_after += 1
        as_user = sent_log.who(number) is Who.USER or upgraded_in == month
        assert row.hash == callers.hash_with(salts[month], number, as_user=as_user)
        person = (as_user, sent_log.visitor(number), sent_log.site_index(number))
        hashes[person][month].add(row.hash)
    assert upgraded_after >= CONNECTIONS, "sessions that began before the end, upgraded after it"
    people = CONNECTIONS * PEOPLE_A_CONNECTION * len(callers.SITES)
    came_in_both = [of for of in hashes.values() if len(of) == len(salts)]
    assert len(came_in_both) >= people, "the same people in both months"
    for of_person in hashes.values():
        assert all(len(of_month) == 1 for of_month in of_person.values())
    for of_person in came_in_both:
        assert len(set.union(*of_person.values())) == len(salts), "nobody can be followed"


async def salt_of(redis: Redis, month: Month) -> bytes:
    salt = await redis.get(keys.salt(month))
    assert isinstance(salt, bytes)
    return salt


async def left_in_files(server: ShiftedValkey, salt: bytes) -> list[str]:
    return files_with(salt, server)


async def slow_log_has(redis: Redis, salt: bytes) -> bool:
    return any(salt in bytes(entry["command"]) for entry in await redis.slowlog_get(1000))


async def entries_left(redis: Redis) -> int:
    """In the streams and among the dead letters."""
    shards = range(STREAM_SHARDS.read({}))
    names = [name(shard) for shard in shards for name in (keys.stream, keys.dead_letters)]
    return sum([await redis.xlen(name) for name in names])


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
