"""Retries with growing pauses, for a limited time.

docs/decisions/0015 says why this is not a library.
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
    """Pauses in seconds, doubled from the first to the longest. Each is shortened at random by up
    to a quarter, so that processes that wait for the same server do not return all at once.
    """

    first: float
    longest: float
    chance: Callable[[], float] = random.random

    def pause(self, failures: int) -> float:
        """The pause after this many failures in a row (at least one)."""
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
    """The result of an attempt, which is repeated while it fails with a temporary error.

    Args:
        attempt: the action; it must be safe to repeat.
        passing: the temporary errors. Any other error ends it at once.
        backoff: the pauses between attempts.
        within: the sum of all pauses, in seconds.
        sleep: waits for a number of seconds.

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
