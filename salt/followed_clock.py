"""The clock of another machine, followed by a steady one of this machine."""

import time
from collections.abc import Callable

from contract.calendar import SECOND_US

# An answer that took longer leaves open what time it is.
_WELL_KNOWN_US = SECOND_US // 10
# Of two sessions the later is the newer, if we were ahead of the server by this much at the most.
_STANDS_STILL_US = SECOND_US
_NOT_KNOWN_US = 10**18

# A clock that nobody sets, and that goes on while the machine is suspended where there is one.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_seconds() -> float:
    """Seconds since some instant, by a clock that nobody sets."""
    return time.clock_gettime(_CLOCK)


class FollowedClock:
    """What the other clock says now, from what it said when it was asked.

    Attributes:
        server_less_steady_us: its time less that of the steady clock, in microseconds.
    """

    def __init__(self, steady_seconds: Callable[[], float]) -> None:
        self._steady_seconds = steady_seconds
        self.server_less_steady_us = 0
        self._uncertain_us = _NOT_KNOWN_US
        self._followed_us = self.steady_us()

    @property
    def is_well_known(self) -> bool:
        """Whether the last answer that was followed came at once."""
        return self._uncertain_us <= _WELL_KNOWN_US

    def now_us(self) -> int:
        """What it says now, in microseconds."""
        return self.steady_us() + self.server_less_steady_us

    def steady_us(self) -> int:
        """The steady clock, in microseconds."""
        return int(self._steady_seconds() * SECOND_US)

    def follow(self, server_us: int, asked_us: int) -> bool:
        """Takes an answer; whether the clock is set back by it so far that later instants may come
        before earlier ones.

        Args:
            server_us: what the other clock said.
            asked_us: when it was asked, by the steady clock.
        """
        # As if the answer had been under way for all of the time since the question: our clock is
        # then ahead of the server's by as much at the most, and no salt outlives its month.
        now_us = self.steady_us()
        uncertain_us = now_us - asked_us
        # What was known before is better than an answer that took its time: a steady clock strays
        # by far less than one per cent.
        known_us = self._uncertain_us + (now_us - self._followed_us) // 100
        if uncertain_us > known_us:
            return False
        before = self.server_less_steady_us
        self.server_less_steady_us = server_us - asked_us
        self._uncertain_us = uncertain_us
        self._followed_us = now_us
        # Or so far ahead before that to be right matters more.
        return before - self.server_less_steady_us > _STANDS_STILL_US
