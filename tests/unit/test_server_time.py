"""flusher/server_time.py: by the later of PostgreSQL's clock and Redis's, and by no one's own."""

import pytest

from contract.calendar import DAY_US, SECOND_US
from contract.errors import Retry
from flusher.rows.entry import Entry
from flusher.server_time import ServerTime

NOW_US = 1_800_000_000 * SECOND_US


class Postgres:
    """Its clock, unless it is away; and how often it was asked."""

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
    """This process's steady clock, which says nothing of what time it is."""

    def __init__(self) -> None:
        self.seconds = 77.0

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
async def test_the_later_of_both_counts(server_time: ServerTime, days: int) -> None:
    await server_time.look()
    stamped_us = NOW_US + days * DAY_US
    server_time.stamped([entry(stamped_us), entry(stamped_us - DAY_US)])
    assert server_time.latest_us() == max(NOW_US, stamped_us)
    assert server_time.now_us() == NOW_US


async def test_what_was_stamped_is_not_forgotten(server_time: ServerTime) -> None:
    """A clock that came back has stamped other shards' entries before."""
    await server_time.look()
    server_time.stamped([entry(NOW_US + DAY_US)])
    server_time.stamped([entry(NOW_US)])
    assert server_time.latest_us() == NOW_US + DAY_US


async def test_it_asks_every_few_seconds_and_goes_on_while_nobody_answers(
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


async def test_before_the_first_answer_nothing_is_judged(
    server_time: ServerTime, postgres: Postgres
) -> None:
    postgres.is_away = True
    server_time.stamped([entry(NOW_US)])
    with pytest.raises(Retry):
        await server_time.look()
    with pytest.raises(Retry):
        server_time.latest_us()
