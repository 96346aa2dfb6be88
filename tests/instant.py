"""The one instant that the tests' data lie around, and the clock that goes with them.

`make test-days` runs the suite on other days: it moves the machine's clock for pytest and for all
that pytest starts (tests/days.py).
"""

import os
from typing import Final
from zoneinfo import ZoneInfo

from contract.calendar import DAY_US, month_at
from runtime.clock import wall_clock

UTC: Final = ZoneInfo("UTC")
# The month in which the suite was started. All workers of pytest-xdist have it from the first
# process, since it may end before the last of them has started.
MONTH: Final = month_at(
    int(os.environ.setdefault("IMPACT_TESTS_STARTED_US", str(wall_clock()))), UTC
)
# Noon on its tenth day. It is far from both ends: what is about a month's end says so by itself.
NOON_US: Final = MONTH.starts_us(UTC) + 9 * DAY_US + DAY_US // 2


def clock() -> int:
    """The time for what is given its clock: microseconds since the epoch. It stands still."""
    return NOON_US
