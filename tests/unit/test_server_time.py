"""flusher/server_time.py: the time is the later of PostgreSQL's and Redis's, never our own."""

import pytest

from contract.calendar import DAY_US, SECOND_US
from contract.errors import Retry
from flusher.rows.entry import Entry
from flusher.server_time import ServerTime

NOW_US = 1_800_000_000 * SECOND_US


class Postgres:
    """Its clock, unless it is away. It counts the queries."""

    def __init__(self) -> None:
        self.us = NOW_US
        self.is_away = False
        self.asked = 0

    async def __call__(self) -> int:
        self.asked += 1
        if self.is_away:
            raise Retry("postgres_away", "for this test")
        return self.us


class Steady:
    """This process's monotonic clock."""

    seconds = 77.0

    def __call__(self) -> float:
        return self.seconds


def entry(us: int) -> Entry:
    return Entry(0, b"%d-0" % (us // 1000), b"")


@pytest.fixture
def postgres() -> Postgres:
    return Postgres()


@pytest.fixture
def steady() -> Steady:
    return Steady()


@pytest.fixture
def server_time(postgres: Postgres, steady: Steady) -> ServerTime:
    return ServerTime(postgres, steady)


@pytest.mark.parametrize("days", [-60, 60])
async def test_the_later_of_both_clocks_counts(server_time: ServerTime, days: int) -> None:
    await server_time.look()
    stamped_us = NOW_US + days * DAY_US
    server_time.stamped([entry(stamped_us), entry(stamped_us - DAY_US)])
    assert server_time.latest_us() == max(NOW_US, stamped_us)
    assert server_time.now_us() == NOW_US


async def test_the_latest_entrys_time_is_kept(server_time: ServerTime) -> None:
    """Entries of other shards may have an earlier time, after a clock was corrected."""
    await server_time.look()
    server_time.stamped([entry(NOW_US + DAY_US)])
    server_time.stamped([entry(NOW_US)])
    assert server_time.latest_us() == NOW_US + DAY_US


async def test_postgresql_is_queried_every_few_seconds_and_our_clock_goes_on_without_it(
    server_time: ServerTime, postgres: Postgres, steady: Steady
) -> None:
    await server_time.look()
    await server_time.look()
    assert postgres.asked == 1
    postgres.is_away = True
    steady.seconds += 3600
    await server_time.look()
    assert postgres.asked == 2
    assert server_time.now_us() == NOW_US + 3600 * SECOND_US
    postgres.is_away, postgres.us = False, NOW_US + DAY_US
    await server_time.look()
    assert server_time.now_us() == NOW_US + DAY_US


async def test_without_a_first_answer_there_is_no_time(
    server_time: ServerTime, postgres: Postgres
) -> None:
    postgres.is_away = True
    server_time.stamped([entry(NOW_US)])
    with pytest.raises(Retry):
        await server_time.look()
    with pytest.raises(Retry):
        server_time.latest_us()
