"""The clock of another machine, computed from a monotonic clock of this machine."""

import time
from collections.abc import Callable

from contract.calendar import SECOND_US

# An answer that takes longer is not exact enough.
_WELL_KNOWN_US = SECOND_US // 10
# If we were ahead of the server by no more than this, later sessions still get later times.
_STANDS_STILL_US = SECOND_US
_NOT_KNOWN_US = 10**18

# A clock that can't be set. CLOCK_BOOTTIME also counts the time while the machine is suspended.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_seconds() -> float:
    """A monotonic clock, in seconds."""
    return time.clock_gettime(_CLOCK)


class FollowedClock:
    """The other clock's present time, computed from its last answer.

    `server_less_steady_us` is its time minus that of the monotonic clock, in microseconds.
    """

    def __init__(self, steady_seconds: Callable[[], float]) -> None:
        self._steady_seconds = steady_seconds
        self.server_less_steady_us = 0
        self._uncertain_us = _NOT_KNOWN_US
        self._followed_us = self.steady_us()

    @property
    def is_well_known(self) -> bool:
        """Whether the last answer that was used arrived quickly."""
        return self._uncertain_us <= _WELL_KNOWN_US

    def now_us(self) -> int:
        return self.steady_us() + self.server_less_steady_us

    def steady_us(self) -> int:
        """The monotonic clock, in microseconds."""
        return int(self._steady_seconds() * SECOND_US)

    def follow(self, server_us: int, asked_us: int) -> bool:
        """Uses an answer; returns whether this set the clock back so far that later times may be
        before earlier ones.

        `server_us`: the other clock's time. `asked_us`: `steady_us` when it was asked.
        """
        # We assume that the server read its clock when we asked. Our clock can then only be ahead
        # of it, at most by the duration of the query, so that no salt outlives its month.
        now_us = self.steady_us()
        uncertain_us = now_us - asked_us
        # An earlier quick answer may be better than a slow one now, because a monotonic clock
        # drifts by far less than one per cent.
        known_us = self._uncertain_us + (now_us - self._followed_us) // 100
        if uncertain_us > known_us:
            return False
        before = self.server_less_steady_us
        self.server_less_steady_us = server_us - asked_us
        self._uncertain_us = uncertain_us
        self._followed_us = now_us
        # If we were ahead by more, the right time matters more than the order.
        return before - self.server_less_steady_us > _STANDS_STILL_US
