"""One month, one salt: whoever races, whoever's clock is wrong, whatever is killed or lost."""

import asyncio
import itertools
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from redis.asyncio import Redis

from bench.load.client import Address, Client, Connection
from bench.load.sent_log import Outcome, Who
from contract import keys
from contract.calendar import DAY_US, SECOND_US, Month, from_us, month_at
from contract.entry import split_entry
from contract.record import FIELD, SessionStarted, SessionUpgraded, decode
from contract.settings import STREAM_SHARDS
from runtime.redis_client import connect_redis
from salt.store import SaltStore
from salt.term import Outcome as SaltOutcome
from tests.adversity.clocks import (
    Callers,
    ShiftedClock,
    ShiftedValkey,
    next_month,
    shifted_system,
    system_before,
)
from tests.conftest import Databases
from tests.leftovers import files_with
from tests.moved_clock import needs_moved_clock
from tests.system import Program, System, eventually, find_free_port, run_command

pytestmark = [needs_moved_clock, pytest.mark.timeout(300)]  # a busy machine starts slowly

ZONE = ZoneInfo("UTC")
DAY_SECONDS = 86_400.0
ROTATIONS_AHEAD = (0, 0, 0, 0, DAY_SECONDS, DAY_SECONDS, -DAY_SECONDS, -DAY_SECONDS)
COLLECTORS_AHEAD = (*[0] * 6, *[DAY_SECONDS] * 3, *[-DAY_SECONDS] * 3)
PEOPLE = 3
BEFORE_SECONDS = 3.0
AFTER_SECONDS = 4.0
PAUSE_SECONDS = 0.05
# Requests and answers travel, and the collector takes the answer for as old as the question.
CLOCK_TOLERANCE_US = 2 * SECOND_US

StreamEvent = SessionStarted | SessionUpgraded


@pytest.mark.long
async def test_twenty_processes_race_at_a_months_end(tmp_path: Path) -> None:
    """Eight of rotation and twelve collectors, some with clocks a day ahead or behind.

    There is one salt, and one hash for each visitor and month in all that they stored, always of
    the month by the salt server's clock.
    """
    month = next_month(ZONE)
    later = month.plus(1)
    boundary_us = month.ends_us(ZONE)
    started = system_before(
        tmp_path, ZONE, boundary_us, seconds=BEFORE_SECONDS, start=start_racers, processes=20
    )
    async with started as (_, server, clock, programs):
        callers = Callers(clock)
        collectors = [program for program in programs if program.module == "collector"]
        async with connect_redis(server.url) as redis:
            store = SaltStore(redis, ZONE)
            old = await salt_of(redis, month)
            until_us = boundary_us + int(AFTER_SECONDS * SECOND_US)
            coming = [
                asyncio.create_task(keep_coming(callers, clock, collector, until_us))
                for collector in collectors
            ]
            await clock.reaches(boundary_us)
            await eventually(store.salt_keys, lambda left: left == [keys.salt(later)])
            await asyncio.gather(*coming)
            new = await salt_of(redis, later)
            assert set(callers.answers) == {201, 202}, callers.answers

            assert await store.salt_keys() == [keys.salt(later)]
            assert await store.recorded_month() == later
            assert await made(redis) == [(month, "first"), (later, "rotated")]
            # Eight dispose of the earlier salt at once, and do not stand in each other's way.
            await eventually(lambda: left_in_files(server, old), lambda files: files == [])
            await eventually(lambda: redis.exists(keys.DISPOSAL_DUE), lambda due: due == 0)
            events = [event async for event in stored(redis)]
        for program in programs:
            assert program.running.poll() is None, program.log
    check_events(events, callers, {month: old, later: new}, boundary_us)
    sent_log = callers.sent_log
    starts = [event.id for event in events if isinstance(event, SessionStarted)]
    assert sorted(starts) == sorted(sent_log.id_of(number) for number in range(len(sent_log)))
    assert len(events) - len(starts) == callers.answers[202]
    everybody = len(COLLECTORS_AHEAD) * PEOPLE * len(callers.SITES)
    for of in (month, later):
        assert sum(event.month == of for event in events) >= everybody


async def start_racers(system: System, clock: ShiftedClock) -> list[Program]:
    """Some at a time, each with the clock that it is to have."""
    programs = [system.program("rotation", **clock.environment(ahead)) for ahead in ROTATIONS_AHEAD]
    programs += [
        system.program("collector", PORT=str(find_free_port()), **clock.environment(ahead))
        for ahead in COLLECTORS_AHEAD
    ]
    for together in (programs[:7], programs[7:14], programs[14:]):
        for program in together:
            program.start()
        await asyncio.gather(*(program.ready() for program in together))
    return programs


async def keep_coming(
    callers: Callers, clock: ShiftedClock, collector: Program, until_us: int
) -> None:
    """The same few, to one collector: as visitors who sign in, as visitors, as users."""
    address = Address("127.0.0.1", int(collector.environment["PORT"]))
    async with Client(address, 1) as client:
        (connection,) = client
        everybody = itertools.product(
            (Who.VISITOR, Who.USER), range(PEOPLE), range(len(callers.SITES))
        )
        for who, person, site in itertools.cycle(everybody):
            number, _ = await callers.start(connection, who, person, site)
            if person == 0 and who is Who.VISITOR:
                await callers.upgrade(connection, number)
            await asyncio.sleep(PAUSE_SECONDS)  # the pace of the visits
            if clock.now_us() > until_us:
                break


def check_events(
    events: list[StreamEvent], callers: Callers, salts: dict[Month, bytes], boundary_us: int
) -> None:
    """Each is of the month that it was by the server's clock, and hashed by that month's salt."""
    sent_log = callers.sent_log
    hashes: dict[tuple[Month, bool, int, int], set[bytes]] = defaultdict(set)
    for event in events:
        number = sent_log.number_of(start_of(event))
        assert number is not None
        started = isinstance(event, SessionStarted)
        sent_us, answered_us = (
            sent_log.start_window_us if started else sent_log.upgrade_window_us
        )(number)
        assert answered_us is not None
        assert sent_us - CLOCK_TOLERANCE_US < event.at_us < answered_us + CLOCK_TOLERANCE_US
        assert event.month == month_at(event.at_us, ZONE)
        if sent_us > boundary_us + CLOCK_TOLERANCE_US:
            assert event.month.starts_us(ZONE) == boundary_us
        if answered_us < boundary_us - CLOCK_TOLERANCE_US:
            assert event.month.ends_us(ZONE) == boundary_us
        as_user = not started or sent_log.who(number) is Who.USER
        hash_ = event.monthly_user_hash if isinstance(event, SessionStarted) else event.user_hash
        assert hash_ == callers.hash_with(salts[event.month], number, as_user=as_user)
        person = sent_log.visitor(number)
        hashes[event.month, as_user, person, sent_log.site_index(number)].add(hash_)
    assert all(len(of_one) == 1 for of_one in hashes.values())
    assert len(set.union(*hashes.values())) == len(hashes), "two share a hash"


@pytest.mark.long
async def test_a_server_that_hangs_over_a_months_end(tmp_path: Path) -> None:
    """A collector that can't ask does not go on with the salt of a month that is over.

    Who comes meanwhile waits, and is counted with the new one.
    """
    month = next_month(ZONE)
    boundary_us = month.ends_us(ZONE)
    started = system_before(
        tmp_path,
        ZONE,
        boundary_us,
        seconds=2,
        start=lambda system, _: system.start("collector"),
        processes=1,
    )
    async with started as (_, server, clock, (collector,)):
        callers = Callers(clock)
        async with connect_redis(server.url) as redis:
            old = await salt_of(redis, month)
            stop = asyncio.Event()
            coming = [
                asyncio.create_task(come_until(stop, callers, collector, person))
                for person in range(20)
            ]
            await clock.reaches(boundary_us - SECOND_US // 2)
            server.freeze()
            # The first twenty wait for their answers by then: others come when the month is over.
            late = [boundary_us + SECOND_US * tenths // 10 for tenths in range(2, 12, 2)]
            for number, instant_us in enumerate(late):
                await clock.reaches(instant_us)
                coming.append(
                    asyncio.create_task(come_until(stop, callers, collector, 20 + number))
                )
            server.thaw()
            answered = callers.answers[201]
            await eventually(lambda: told_so_far(callers), lambda found: found > answered + 100)
            stop.set()
            await asyncio.gather(*coming)
            new = await salt_of(redis, month.plus(1))
            events = [event async for event in stored(redis)]
    assert set(callers.answers) == {201, 202}, callers.answers
    check_events(events, callers, {month: old, month.plus(1): new}, boundary_us)


@asynccontextmanager
async def in_mid_month(
    folder: Path, *programs: str, database_url: str = ""
) -> AsyncIterator[tuple[System, ShiftedValkey, ShiftedClock, Month]]:
    """A running system in the middle of a month; each collector has a port of its own."""
    month = next_month(ZONE)
    clock = ShiftedClock.before(month.starts_us(ZONE) + 14 * DAY_US, 0)
    with shifted_system(folder, clock, ZONE, database_url=database_url) as (system, server):
        started = [
            system.program(name, **({"PORT": str(find_free_port())} if name == "collector" else {}))
            for name in programs
        ]
        for program in started:
            program.start()
        await asyncio.gather(*(program.ready() for program in started))
        yield system, server, clock, month


@pytest.mark.long
async def test_a_killed_server_comes_back_with_the_same_salt(tmp_path: Path) -> None:
    """Several times, at any moment, under load: else everybody would be counted again."""
    chance = random.Random()  # noqa: S311 - which moment does not matter
    async with in_mid_month(tmp_path, "rotation", "collector", "collector") as running:
        system, server, clock, month = running
        callers = Callers(clock)
        async with connect_redis(server.url) as redis:
            salt = await salt_of(redis, month)
        # `appendfsync everysec`: the salt is as durable as it gets when the file has it.
        await eventually(lambda: left_in_files(server, salt), bool)
        stop = asyncio.Event()
        coming = [
            asyncio.create_task(come_until(stop, callers, collector, person))
            for collector in collectors_of(system)
            for person in range(PEOPLE)
        ]

        async def stored_more(than: int, by: int) -> None:
            await eventually(lambda: told_so_far(callers), lambda found: found >= than + by)

        for _ in range(4):
            await stored_more(callers.answers[201], chance.randint(1, 80))
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            async with connect_redis(server.url) as redis:
                assert await salt_of(redis, month) == salt
        await stored_more(callers.answers[201], 20)
        stop.set()
        await asyncio.gather(*coming)
        assert set(callers.answers) <= {201, 202, 503}, callers.answers
        async with connect_redis(server.url) as redis:
            assert await salt_of(redis, month) == salt
            assert await made(redis) == [(month, "first")]
            events = [event async for event in stored(redis)]
    sent_log = callers.sent_log
    for event in events:
        number = sent_log.number_of(start_of(event))
        assert number is not None
        hash_ = event.monthly_user_hash if isinstance(event, SessionStarted) else event.user_hash
        as_user = isinstance(event, SessionUpgraded) or sent_log.who(number) is Who.USER
        assert hash_ == callers.hash_with(salt, number, as_user=as_user)
    starts = {event.id for event in events if isinstance(event, SessionStarted)}
    answered = [n for n in range(len(sent_log)) if sent_log.start_outcome(n) is Outcome.ACCEPTED]
    assert starts.issuperset(sent_log.id_of(number) for number in answered), "a lost session"


async def test_a_salt_that_was_deleted_by_hand_is_made_anew_and_said_to_be(
    databases: Databases, tmp_path: Path
) -> None:
    """Both collectors go on with one new salt by themselves, and everybody who must know is told.

    That is whoever reads the log or asks for the status, and the database, for reports.
    """
    dsn = await databases.create()
    programs = ("rotation", "collector", "collector", "flusher")
    async with in_mid_month(tmp_path, *programs, database_url=dsn) as running:
        system, server, clock, month = running
        callers = Callers(clock)
        async with connect_redis(server.url) as redis:
            old = await salt_of(redis, month)
            for collector in collectors_of(system):
                await expect_hash(callers, collector, dsn, old)
            deleted_us = clock.now_us()
            assert await redis.delete(keys.salt(month)) == 1

            await eventually(lambda: redis.exists(keys.salt(month)))
            new = await salt_of(redis, month)
            assert new != old
            for collector in collectors_of(system):
                await eventually(partial(salts_taken, collector), lambda taken: taken >= 2)
                await expect_hash(callers, collector, dsn, new)
            assert await salt_of(redis, month) == new
            assert await made(redis) == [(month, "first"), (month, "lost")]
            assert set(callers.answers) == {201}, callers.answers
            errors = [line for line in system.logs.splitlines() if "[error" in line]
            assert [line for line in errors if "salt was lost" in line], system.logs
            assert [line for line in errors if "count twice this month" in line]

            code, output, _ = await run_command(
                "rotation", "status", "--json", **system.environment
            )
            status = json.loads(output)
            assert (code, status["salt_is_current"]) == (0, True)
            made_at = datetime.fromisoformat(status["salt_made_at"])
            assert from_us(deleted_us) <= made_at <= from_us(clock.now_us())
            assert status["salt_made_because"] == "lost"
            code, output, _ = await run_command("rotation", "status", **system.environment)
            assert (code, "count twice this month" in output) == (0, True), output

        async def outcomes() -> list[tuple[str, datetime]]:
            connection = await asyncpg.connect(dsn)
            query = "SELECT outcome, made_at FROM flusher.salts WHERE month = $1 ORDER BY made_at"
            rows = await connection.fetch(query, month.first_day)
            await connection.close()
            return [(row["outcome"], row["made_at"]) for row in rows]

        noted = await eventually(outcomes, lambda rows: len(rows) == 2)
        assert [outcome for outcome, _ in noted] == ["first", "lost"]
        assert from_us(deleted_us) <= noted[1][1].astimezone(UTC) <= from_us(clock.now_us())


async def test_rotation_says_so_too_when_it_is_the_one_to_find_a_salt_lost(
    tmp_path: Path,
) -> None:
    async with (
        in_mid_month(tmp_path) as (system, server, _, month),
        connect_redis(server.url) as redis,
    ):
        await SaltStore(redis, ZONE).ensure()
        assert await redis.delete(keys.salt(month)) == 1
        code, output, log = await run_command("rotation", "rotate", **system.environment)
        assert (code, "count twice this month" in output) == (0, True), output
        (error,) = [line for line in log.splitlines() if "[error" in line]
        assert "salt was lost" in error
        assert "count twice this month" in error
        assert await made(redis) == [(month, "first"), (month, "lost")]


async def test_a_salt_ends_with_its_month_though_nobody_is_there(tmp_path: Path) -> None:
    """No process, no traffic: the server itself lets it expire. And who comes first, disposes."""
    month = next_month(ZONE)
    boundary_us = month.ends_us(ZONE)
    started = system_before(
        tmp_path,
        ZONE,
        boundary_us,
        seconds=2,
        start=lambda system, _: system.start(),
        processes=0,
    )
    async with started as (system, server, clock, _), connect_redis(server.url) as redis:
        store = SaltStore(redis, ZONE)
        ensured = await store.ensure()
        assert (ensured.outcome, ensured.term.month) == (SaltOutcome.FIRST, month)
        salt = await store.read(ensured.term)
        assert salt is not None
        old = salt.value
        keys_before = await redis.dbsize()
        assert await redis.exists(keys.salt(month)) == 1
        await clock.reaches(boundary_us)
        # Counted, not asked for: to ask for an expired key deletes it.
        await eventually(redis.dbsize, lambda count: count == keys_before - 1)
        assert (await redis.info("stats"))["expired_keys"] == 1
        assert await store.salt_keys() == []

        assert files_with(old, server), "nobody is there to rewrite the append-only file"
        code, output, errors = await run_command("rotation", "rotate", **system.environment)
        assert (code, "earlier one destroyed" in output) == (0, True), output + errors
        await eventually(lambda: left_in_files(server, old), lambda files: files == [])
        assert await store.salt_keys() == [keys.salt(month.plus(1))]


def collectors_of(system: System) -> Iterator[Program]:
    return (program for program in system.programs if program.module == "collector")


async def come_until(
    stop: asyncio.Event, callers: Callers, collector: Program, person: int
) -> None:
    """The same visitor, again and again; now and then they sign in."""
    address = Address("127.0.0.1", int(collector.environment["PORT"]))
    async with Client(address, 1) as client:
        (connection,) = client
        for turn in itertools.count():
            if stop.is_set():
                break
            number, status = await callers.start(connection, Who.VISITOR, person, turn % 2)
            if status == 201 and turn % 4 == 0:
                await callers.upgrade(connection, number)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PAUSE_SECONDS)


async def expect_hash(callers: Callers, collector: Program, dsn: str, salt: bytes) -> None:
    """A visitor's session through a collector becomes a row whose hash is by a salt."""
    address = Address("127.0.0.1", int(collector.environment["PORT"]))
    connection = Connection(address, keep_going=False)
    number, _ = await callers.start(connection, Who.VISITOR, 1, 0)
    connection.close()
    database = await asyncpg.connect(dsn)

    async def stored_hash() -> bytes | None:
        query = "SELECT monthly_user_hash FROM sessions WHERE id = $1"
        found = await database.fetchval(query, callers.sent_log.id_of(number).hex())
        return None if found is None else bytes(found.bytes)

    found = await eventually(stored_hash, lambda found: found is not None)
    await database.close()
    assert found == callers.hash_with(salt, number, as_user=False)


async def salts_taken(collector: Program) -> int:
    """How often a collector has said that it has a salt."""
    said = (
        "no salt was recorded",
        "salt was read",
        "was replaced within",
        "salt was lost",
    )
    return sum(collector.log.count(words) for words in said)


async def told_so_far(callers: Callers) -> int:
    return callers.answers[201]


async def salt_of(redis: Redis, month: Month) -> bytes:
    salt = await redis.get(keys.salt(month))
    assert isinstance(salt, bytes)
    return salt


async def left_in_files(server: ShiftedValkey, salt: bytes) -> list[str]:
    return files_with(salt, server)


async def made(redis: Redis) -> list[tuple[Month, str]]:
    """Every salt that was made: of which month, and why."""
    rotations: Any = await redis.xrange(keys.ROTATIONS)
    return [
        (Month.parse(fields[b"month"].decode()), fields[b"outcome"].decode())
        for _, fields in rotations
    ]


async def stored(redis: Redis) -> AsyncIterator[StreamEvent]:
    """What the collectors have stored, from all shards."""
    for shard in range(STREAM_SHARDS.read({})):
        entries: Any = await redis.xrange(keys.stream(shard))
        for _, fields in entries:
            for record in split_entry(fields[FIELD]):
                event = decode(record)
                if isinstance(event, SessionStarted | SessionUpgraded):
                    yield event


def start_of(event: StreamEvent) -> bytes:
    """The id of the session that it is about."""
    if isinstance(event, SessionStarted):
        return event.id
    assert event.session_id is not None
    return event.session_id
