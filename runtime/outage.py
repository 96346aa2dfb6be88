"""Logs the end of an outage.

The end is a warning like the beginning, so that whoever sees the one also sees the other, and both
are limited in the same way (`RepetitionLimit`).
"""

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()


class Outage:
    """Keeps track of what fails; logs once that everything works again, and how long it took."""

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
