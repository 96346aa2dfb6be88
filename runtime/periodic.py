"""The loop for repeated work: it waits after errors, and runs until asked to stop.

docs/decisions/0015 says why this is not a library.
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
    """Is told about turns that fail."""

    def fails(self, error: Exception, pause: float) -> None:
        """A turn has failed; the next one comes after this pause, in seconds."""
        ...

    def works(self) -> None:
        """A turn has not failed."""
        ...


class FailureLog:
    """Logs a line for each turn that fails (equal lines are held back, `runtime/repetition.py`),
    and one when that is over.
    """

    def __init__(self, fails: str, works: str, to_do: str) -> None:
        """
        Args:
            fails: the line for a failed turn.
            works: the line when turns succeed again.
            to_do: the next step for an operator.
        """
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
    """Runs turn after turn, the first at once, until asked to stop. A begun turn is finished.

    Args:
        turn: one turn of the work.
        stopping: ends the loop, also in a pause. It is also the clock: all waiting is its `wait`.
        every: seconds from the end of a turn to the next one; a function is called after each turn.
        trouble: is told after each turn whether it failed. None: turns report failures themselves.
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
    """Something that is due if it was never done, or was done some seconds ago."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        """`now`: a steady clock's seconds."""
        self._seconds = seconds
        self._now = now
        self._due = -math.inf

    @property
    def is_over(self) -> bool:
        """Whether it is due."""
        return self._now() >= self._due

    def begin(self) -> None:
        """Notes that it is done now."""
        self._due = self._now() + self._seconds

    def ended(self) -> bool:
        """Whether it is due; if so, the next one begins."""
        if not self.is_over:
            return False
        self.begin()
        return True
