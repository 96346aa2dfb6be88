"""The machine's clock. Only this module reads it; other code gets a clock as an argument.

A command's entry point (`__main__.py`) passes `wall_clock` on; tests pass their own clock.
Durations are measured with `time.monotonic`, which is not part of this module.
"""

import time
from collections.abc import Callable

# Returns the time: microseconds since the Unix epoch, UTC.
Clock = Callable[[], int]


def wall_clock() -> int:
    """The machine's clock, in microseconds since the Unix epoch, UTC."""
    return time.time_ns() // 1000
