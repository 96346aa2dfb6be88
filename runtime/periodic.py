"""Work that is repeated until asked to stop, or tried again until it succeeds, and the log lines of
its failures.

Why this is not a library: docs/decisions/0015.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from contract.errors import Retry
from runtime.stopping import Stopping

Result = TypeVar("Result")
Failure = type[Exception] | tuple[type[Exception], ...]
Report = Callable[[Exception | None, float], None]
"""Receives the outcome of a turn: the error, if it failed, and the seconds until the next turn."""

_JITTER: Final = 0.25
_DOUBLINGS: Final = 30  # more than any backoff needs; bounds the number

log = structlog.get_logger()


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
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
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


async def repeat(
    turn: Callable[[], Awaitable[object]],
    stopping: Stopping,
    every: float | Callable[[], float],
    *,
    report: Report | None = None,
    passing: Failure = Retry,
    backoff: Backoff | None = None,
) -> None:
    """Runs turns, the first at once, until asked to stop. A turn that has begun is finished.

    Args:
        turn: one turn of the work.
        stopping: ends the loop, also in a pause. All waiting is its `wait`.
        every: seconds from the end of a turn to the next one; a function is called after each turn.
        report: receives the outcome of each turn. None: turns report failures themselves.
        passing: errors after which the loop goes on. Any other error ends it.
        backoff: the pauses after failed turns. None: the same pauses as after others.
    """
    failures = 0
    while not stopping.asked:
        error: Exception | None = None
        try:
            await turn()
        except passing as failure:
            error = failure
        failures = failures + 1 if error else 0
        if error and backoff:
            pause = backoff.pause(failures)
        else:
            pause = every() if callable(every) else every
        if report:
            report(error, pause)
        await stopping.wait(pause)


class Interval:
    """Something that is due at first, and then each time that some seconds have passed."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._now = now
        self._due = -math.inf

    @property
    def is_over(self) -> bool:
        return self._now() >= self._due

    def begin(self) -> None:
        self._due = self._now() + self._seconds

    def ended(self) -> bool:
        """Whether it is due; if so, starts the next interval."""
        if not self.is_over:
            return False
        self.begin()
        return True


class Outage:
    """Keeps track of what fails; logs once that everything works again, and how long it took.

    The end is a warning like the beginning, so that whoever sees the one also sees the other, and
    both are limited in the same way (`RepetitionLimit`).
    """

    def __init__(self, over: str, now: Callable[[], float] = time.monotonic) -> None:
        """`over`: the line to log at the end. `now`: a monotonic clock, in seconds."""
        self._over = over
        self._now = now
        self._began = 0.0
        self._failing: set[object] = set()

    def fails(self, what: object = None) -> None:
        """Something fails; `what` distinguishes several things that fail at the same time."""
        if not self._failing:
            self._began = self._now()
        self._failing.add(what)

    def works(self, what: object = None) -> None:
        """It works, or is no longer needed. If nothing else fails, the outage is over."""
        if what not in self._failing:
            return
        self._failing.discard(what)
        if not self._failing:
            log.warning(self._over, lasted_seconds=round(self._now() - self._began, 1))


def failure_log(fails: str, works: str, to_do: str) -> Report:
    """Logs `fails` for each turn that fails, and `works` when turns succeed again.

    `to_do`: the next step for an operator.
    """
    outage = Outage(works)

    def report(error: Exception | None, pause: float) -> None:
        if error is None:
            outage.works()
            return
        outage.fails()
        log.warning(fails, why=str(error), seconds=round(pause, 1), to_do=to_do)

    return report
