"""flusher/server_time.py: the time is the later of PostgreSQL's and Redis's, never our own.

`tests/adversity/test_wrong_clocks.py` has flushers with wrong clocks.
"""

from unittest.mock import AsyncMock

import pytest

from contract.calendar import DAY_US, SECOND_US
from contract.errors import Retry
from flusher.rows.batch import Entry
from flusher.server_time import ServerTime
from tests.unit.steady import Steady

NOW_US = 1_800_000_000 * SECOND_US
AWAY = Retry("postgres_away", "for this test")


def entry(us: int) -> Entry:
    return Entry(0, b"%d-0" % (us // 1000), b"")


@pytest.mark.parametrize("days", [-60, 60])
async def test_the_later_of_both_clocks_counts_and_the_latest_entrys_time_is_kept(
    days: int,
) -> None:
    server_time = ServerTime(AsyncMock(return_value=NOW_US), Steady())
    await server_time.look()
    stamped_us = NOW_US + days * DAY_US
    server_time.stamped([entry(stamped_us)])
    # Of another shard, after a clock was corrected.
    server_time.stamped([entry(stamped_us - DAY_US)])
    assert server_time.latest_us() == max(NOW_US, stamped_us)
    assert server_time.now_us() == NOW_US


async def test_postgresql_is_queried_every_few_seconds_and_our_clock_goes_on_without_it() -> None:
    postgres = AsyncMock(side_effect=[AWAY, NOW_US, AWAY, NOW_US + DAY_US])
    steady = Steady()
    server_time = ServerTime(postgres, steady)
    with pytest.raises(Retry):
        await server_time.look()
    with pytest.raises(Retry):
        server_time.latest_us()
    for _ in range(2):
        await server_time.look()
        assert postgres.await_count == 2
    steady.seconds += 3600
    await server_time.look()
    assert server_time.now_us() == NOW_US + 3600 * SECOND_US
    await server_time.look()
    assert server_time.now_us() == NOW_US + DAY_US
