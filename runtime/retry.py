"""The one way to try again: with pauses that grow, for so long and no longer.

Own code: docs/decisions/0015 says why.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

Result = TypeVar("Result")
Sleep = Callable[[float], Awaitable[object]]
Failure = type[Exception] | tuple[type[Exception], ...]

_JITTER: Final = 0.25
_DOUBLINGS: Final = 30  # enough for any, and no number that grows without end


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses in seconds, doubled from the first to the longest. Each is up to a quarter shorter, by
    chance: those who wait for the same server do not come back all at once.
    """

    first: float
    longest: float
    chance: Callable[[], float] = random.random

    def pause(self, failures: int) -> float:
        """After so many failures in a row, one at least."""
        seconds = min(self.first * 2.0 ** min(failures - 1, _DOUBLINGS), self.longest)
        return seconds * (1 - _JITTER * self.chance())


async def retry(
    attempt: Callable[[], Awaitable[Result]],
    passing: Failure,
    backoff: Backoff,
    *,
    within: float,
    sleep: Sleep = asyncio.sleep,
) -> Result:
    """What an attempt gives, which is made again while it fails by what may pass.

    Args:
        attempt: what to do; it may be done any number of times.
        passing: its errors that may pass. Any other ends it at once.
        backoff: the pauses between attempts.
        within: how many seconds of pauses there may be in all.
        sleep: waits for so many seconds.

    Raises:
        Exception: the last attempt's.
    """
    failures, slept = 0, 0.0
    while True:
        try:
            return await attempt()
        except passing:
            failures += 1
            pause = backoff.pause(failures)
            slept += pause
            if slept > within:
                raise
        await sleep(pause)
