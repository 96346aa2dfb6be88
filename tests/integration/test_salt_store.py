"""salt/rotate.lua on real servers: when a salt is made, put back, replaced, and when not."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from zoneinfo import ZoneInfo

import pytest
from redis.asyncio import Redis

from contract import keys
from contract.calendar import SECOND_US, Month, month_at
from contract.errors import ClocksDisagree
from embedded.valkey import ValkeyServer
from runtime.clock import wall_clock
from runtime.redis_client import connect_redis
from salt.store import SaltStore
from salt.term import Ensured, Outcome, Salt
from tests.instant import UTC
from tests.servers import flavours

HOUR_US = 3600 * SECOND_US


@pytest.fixture(scope="module", params=flavours(), ids=lambda flavour: flavour.name)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ValkeyServer]:
    folder = tmp_path_factory.mktemp("salt") / "salt"
    with ValkeyServer(folder, binary=request.param.redis_binary) as server:
        yield server


@pytest.fixture
async def redis(server: ValkeyServer) -> AsyncIterator[Redis]:
    async with connect_redis(server.url) as redis:
        await redis.flushall()
        yield redis


def store(
    redis: Redis, *offsets_us: int, zone: ZoneInfo = UTC, sets_expiry: bool = False
) -> SaltStore:
    """Of a process that sees clocks with these offsets from the server's clock."""

    async def opinions() -> Iterable[int]:
        return [wall_clock() + offset for offset in offsets_us]

    return SaltStore(redis, zone, opinions, sets_expiry=sets_expiry)


def this_month() -> Month:
    return month_at(wall_clock(), UTC)


async def made(redis: Redis) -> Salt:
    """The month's salt, which is made if it was not."""
    salt = await read(store(redis), (await store(redis).ensure()).term.month)
    assert salt is not None
    return salt


async def read(store: SaltStore, month: Month) -> Salt | None:
    return (await store.observe(month)).salt


async def in_force(redis: Redis, month: Month, dies_us: int | None = None) -> None:
    """A month and its salt, as the script leaves them."""
    await redis.set(keys.CURRENT_SALT, str(month))
    await redis.setrange(keys.salt(month), 0, bytes(32))
    await redis.pexpireat(keys.salt(month), (dies_us or month.ends_us(UTC)) // 1000)


WRONG = [
    pytest.param((2 * HOUR_US,), id="ahead"),
    pytest.param((-2 * HOUR_US,), id="behind"),
    pytest.param((0, 40 * 24 * HOUR_US), id="one of two"),
]


@pytest.mark.parametrize("offsets", WRONG)
async def test_nothing_is_made_or_destroyed_that_a_clock_contradicts(
    offsets: tuple[int, ...], redis: Redis
) -> None:
    wrong, right = store(redis, *offsets), store(redis, 0, HOUR_US // 2)
    with pytest.raises(ClocksDisagree):
        await wrong.ensure()
    assert await right.recorded_month() is None

    await in_force(redis, this_month().plus(-1))
    with pytest.raises(ClocksDisagree):
        await wrong.ensure()
    assert await right.recorded_month() == this_month().plus(-1)

    made = await right.ensure()
    assert made.outcome is Outcome.ROTATED
    with pytest.raises(ClocksDisagree):
        await wrong.ensure(replace=True)
    salt = await read(right, made.term.month)
    found = await wrong.ensure()
    assert (found.outcome, await read(wrong, found.term.month)) == (Outcome.UNCHANGED, salt)


async def test_a_missing_salt_is_waited_for_and_a_process_that_holds_it_puts_it_back(
    redis: Redis,
) -> None:
    salt = await made(redis)
    await redis.delete(keys.salt(salt.month))
    waiting = asyncio.create_task(store(redis).ensure())
    restored = await store(redis).ensure(held=salt)
    found = await waiting
    assert (restored.outcome, found.outcome) == (Outcome.RESTORED, Outcome.UNCHANGED)
    assert await read(store(redis), found.term.month) == salt
    expires_ms = await redis.pexpiretime(keys.salt(salt.month))
    assert expires_ms == salt.ends_us // 1000


async def test_a_salt_that_is_gone_with_its_record_is_lost_for_a_process_that_knew_it(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a process that did not know it, it is the first: a new installation does not wait."""
    monkeypatch.setattr("salt.store._MISSING_SECONDS", 0.5)
    knowing, new = store(redis), store(redis)
    await knowing.ensure()
    await redis.flushall()
    assert (await knowing.ensure()).outcome is Outcome.LOST
    await redis.flushall()
    assert (await new.ensure()).outcome is Outcome.FIRST


async def test_a_salt_of_another_month_than_the_recorded_one_is_not_put_back(redis: Redis) -> None:
    salt = await made(redis)
    await redis.flushall()
    later = salt.month.plus(1)
    await in_force(redis, later)
    # By others its month has come, so that it is in force on any day of this one.
    found = await store(redis, 60 * 24 * HOUR_US).ensure(held=salt)
    assert (found.outcome, found.term.month) == (Outcome.CLOCK_WENT_BACK, later)


async def test_a_later_month_is_taken_back_by_force_alone(redis: Redis) -> None:
    later = this_month().plus(2)
    await in_force(redis, later)
    with pytest.raises(ClocksDisagree, match="rotate --force"):  # no flusher would store it
        await store(redis, 0).ensure()
    # Unless others say that its month has come: then it is the server that is behind.
    found = await store(redis, 60 * 24 * HOUR_US).ensure()
    assert (found.outcome, found.term.month) == (Outcome.CLOCK_WENT_BACK, later)
    with pytest.raises(ClocksDisagree):
        await store(redis, 2 * HOUR_US).ensure(replace=True)
    made = await store(redis, 0).ensure(replace=True)
    assert (made.outcome, made.term.month) == (Outcome.REPLACED, this_month())
    assert await store(redis).salt_keys() == [keys.salt(this_month())]
    assert await store(redis).recorded_month() == this_month()


async def test_the_expiry_follows_only_rotations_calendar(redis: Redis) -> None:
    month = this_month()
    # Where it is the same month now.
    begins = wall_clock() - month.starts_us(UTC) < month.ends_us(UTC) - wall_clock()
    another = ZoneInfo("Pacific/Kiritimati" if begins else "Pacific/Pago_Pago")
    await store(redis).ensure()

    async def expires_us() -> int:
        return int(await redis.pexpiretime(keys.salt(month))) * 1000

    other = await store(redis, zone=another).ensure()
    assert (other.outcome, other.other_calendar) == (Outcome.UNCHANGED, True)
    assert await expires_us() == month.ends_us(UTC)
    before = await redis.get(keys.salt(month))
    moved = await store(redis, zone=another, sets_expiry=True).ensure()
    assert (moved.outcome, await redis.get(keys.salt(month))) == (Outcome.UNCHANGED, before)
    assert await expires_us() == month.ends_us(another)
    assert not (await store(redis, zone=another).ensure()).other_calendar


async def test_a_calendar_that_ends_a_month_before_rotations_goes_on_with_its_salt(
    redis: Redis,
) -> None:
    """Until it expires, which by rotation's it does in some hours."""
    earlier = this_month().plus(-1)
    dies_us = wall_clock() + 8 * HOUR_US
    await in_force(redis, earlier, dies_us)
    found: Ensured = await store(redis, 0).ensure()
    assert (found.outcome, found.term.month) == (Outcome.ANOTHER_CALENDAR, earlier)
    assert found.term.ends_us == dies_us // 1000 * 1000
    assert found.other_calendar
    # Rotation itself goes by its calendar.
    assert (await store(redis, 0, sets_expiry=True).ensure()).outcome is Outcome.ROTATED
