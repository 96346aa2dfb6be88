"""The machine's clock: the one place that asks it. Whoever needs the time is given it.

A command's entry point (`__main__.py`) hands `wall_clock` on; tests hand on a clock of their own.
How long something takes is measured with `time.monotonic`, which is no matter of this module.
"""

import time
from collections.abc import Callable

# Says what time it is: microseconds since the Unix epoch, UTC.
Clock = Callable[[], int]


def wall_clock() -> int:
    """The machine's clock, in microseconds since the Unix epoch, UTC."""
    return time.time_ns() // 1000
