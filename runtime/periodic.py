"""The loop for repeated work: it waits after errors, and runs until asked to stop.

Why this is not a library: docs/decisions/0015.
"""

import math
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from contract.errors import Retry
from runtime.outage import Outage
from runtime.retry import Backoff, Failure
from runtime.stopping import Stopping

Turn = Callable[[], Awaitable[object]]

log = structlog.get_logger()


class Trouble(Protocol):
    """Receives the outcome of each turn."""

    def fails(self, error: Exception, pause: float) -> None:
        """A turn has failed. `pause`: seconds until the next one."""
        ...

    def works(self) -> None: ...


class FailureLog:
    """Logs a line for each turn that fails, and one when turns succeed again."""

    def __init__(self, fails: str, works: str, to_do: str) -> None:
        """`fails` and `works`: the two lines. `to_do`: the next step for an operator."""
        self._fails = fails
        self._to_do = to_do
        self._outage = Outage(works)

    def fails(self, error: Exception, pause: float) -> None:
        self._outage.fails()
        log.warning(self._fails, why=str(error), seconds=round(pause, 1), to_do=self._to_do)

    def works(self) -> None:
        self._outage.works()


async def repeat(
    turn: Turn,
    stopping: Stopping,
    every: float | Callable[[], float],
    *,
    trouble: Trouble | None = None,
    passing: Failure = Retry,
    backoff: Backoff | None = None,
) -> None:
    """Runs turns, the first at once, until asked to stop. A turn that has begun is finished.

    Args:
        turn: one turn of the work.
        stopping: ends the loop, also in a pause. All waiting is its `wait`.
        every: seconds from the end of a turn to the next one; a function is called after each turn.
        trouble: receives the outcome of each turn. None: turns report failures themselves.
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
        if trouble and error:
            trouble.fails(error, pause)
        elif trouble:
            trouble.works()
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
        """Starts the next interval now."""
        self._due = self._now() + self._seconds

    def ended(self) -> bool:
        """Whether it is due; if so, starts the next interval."""
        if not self.is_over:
            return False
        self.begin()
        return True
