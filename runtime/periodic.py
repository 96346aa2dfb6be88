"""The one loop of what is done again and again, its faults waited out, until asked to stop.

Own code: docs/decisions/0015 says why.
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
    """What is said of turns that fail."""

    def fails(self, error: Exception, pause: float) -> None:
        """A turn has failed; the next comes after so many seconds."""
        ...

    def works(self) -> None:
        """A turn has not failed."""
        ...


class Told:
    """A line for each turn that fails (equal ones are held back, `runtime/repetition.py`), and one
    when that is over.
    """

    def __init__(self, fails: str, works: str, to_do: str) -> None:
        """
        Args:
            fails: what can't be done.
            works: that it can be done again.
            to_do: for an operator.
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
    """Turn after turn, the first at once, until asked to stop. A turn that has begun is ended.

    Args:
        turn: what to do, once.
        stopping: ends it, also in a pause. It is the clock, too: all waiting is its `wait`.
        every: so many seconds from one turn's end to the next; asked after each turn.
        trouble: is told of each turn, whether it failed. None: turns tell themselves.
        passing: a turn's errors after which there is a next one. Any other ends the loop.
        backoff: the pauses after turns that failed. None: the same as after others.
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
    """What is due when it was never done, or some seconds ago."""

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
        """It is done now."""
        self._due = self._now() + self._seconds

    def ended(self) -> bool:
        """Whether it is due; if so, the next one begins."""
        if not self.is_over:
            return False
        self.begin()
        return True
