"""The end of an outage is a line, as its beginning is: who reads the log knows that it is over.

A warning, too: whoever sees the beginning sees the end, and what goes up and down is held back
alike (`runtime/repetition.py`).
"""

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()


class Outage:
    """Knows what fails; says once that all of it works again, and how long that took."""

    def __init__(self, over: str, now: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            over: the line that says that it is over.
            now: a steady clock's seconds.
        """
        self._over = over
        self._now = now
        self._began = 0.0
        self._failing: set[object] = set()

    def fails(self, what: object = None) -> None:
        """Something fails; `what` tells apart those that fail at the same time."""
        if not self._failing:
            self._began = self._now()
        self._failing.add(what)

    def works(self, what: object = None) -> None:
        """It works, or is needed no more; with the last that failed the outage is over."""
        if what not in self._failing:
            return
        self._failing.discard(what)
        if not self._failing:
            log.warning(self._over, lasted_seconds=round(self._now() - self._began, 1))
