"""The servers' time: PostgreSQL's clock, and the time in the ids that Redis gave to entries.

A record of a later month than the later of the two is refused. So a single clock that is behind
makes no good record a dead letter. This process's own clock is not used.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Final

from contract.calendar import SECOND_US
from contract.errors import Retry
from flusher.rows.batch import Entry

_EVERY_SECONDS: Final = 5.0
_ID: Final = attrgetter("id")


class ServerTime:
    """Asks PostgreSQL every few seconds. In between, a monotonic clock goes on from its answer.

    Its methods raise Retry if PostgreSQL has never answered.
    """

    def __init__(
        self,
        postgres_us: Callable[[], Awaitable[int]],
        steady_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            postgres_us: asks PostgreSQL for its clock. Raises Retry if it does not answer.
            steady_seconds: a monotonic clock.
        """
        self._postgres_us = postgres_us
        self._steady_seconds = steady_seconds
        self._asked: float | None = None
        self._postgres_less_steady_us = 0
        self._stamped_us = 0

    async def look(self) -> None:
        """Asks PostgreSQL, unless it has answered a few seconds ago."""
        now = self._steady_seconds()
        if self._asked is not None and now - self._asked < _EVERY_SECONDS:
            return
        try:
            postgres_us = await self._postgres_us()
        except Retry:
            if self._asked is None:
                raise
            return
        self._asked = now
        self._postgres_less_steady_us = postgres_us - self._steady_us()

    def stamped(self, entries: Sequence[Entry]) -> None:
        """Notes when Redis took these entries (at least one), by the ids that it gave them."""
        # Compared as bytes: the milliseconds have thirteen digits until the year 2286.
        newest = max(entries, key=_ID).id
        self._stamped_us = max(self._stamped_us, int(newest.partition(b"-")[0]) * 1000)

    def now_us(self) -> int:
        """PostgreSQL's time, in microseconds since the epoch."""
        if self._asked is None:
            raise Retry("postgres", "PostgreSQL's time is not known yet")
        return self._steady_us() + self._postgres_less_steady_us

    def latest_us(self) -> int:
        """The later of both clocks, in microseconds since the epoch."""
        return max(self.now_us(), self._stamped_us)

    def _steady_us(self) -> int:
        return int(self._steady_seconds() * SECOND_US)
