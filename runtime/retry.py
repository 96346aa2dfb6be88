"""Retries with growing pauses, for a limited time.

Why this is not a library: docs/decisions/0015.
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
_DOUBLINGS: Final = 30  # more than any backoff needs; bounds the number


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses in seconds that double from the first to the longest. Each is shortened at random by
    up to a quarter, so that processes do not all return to a server at the same time.
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
    """Returns the result of the first attempt that succeeds, or raises the last attempt's error.

    Args:
        attempt: the action; it must be safe to repeat.
        passing: the temporary errors. Any other error ends it at once.
        backoff: the pauses between attempts.
        within: the most that all pauses may sum up to, in seconds.
        sleep: waits for a number of seconds.
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
