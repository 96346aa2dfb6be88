"""What time it is by the servers: PostgreSQL's clock, and what Redis has stamped entries with.

By the later of the two a record is judged to be of a month that can't be yet. This process's own
clock has no say, and nor has either of the two alone: where one is behind, no good record becomes a
dead letter.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Final

from contract.calendar import SECOND_US
from contract.errors import Retry
from flusher.rows.entry import Entry

_EVERY_SECONDS: Final = 5.0
_ID: Final = attrgetter("id")


class ServerTime:
    """Asks PostgreSQL every few seconds; between, and while it is away, a steady clock goes on."""

    def __init__(
        self,
        postgres_us: Callable[[], Awaitable[int]],
        steady_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            postgres_us: asks PostgreSQL for its clock. Raises Retry where it does not answer.
            steady_seconds: a clock that nobody sets.
        """
        self._postgres_us = postgres_us
        self._steady_seconds = steady_seconds
        self._asked: float | None = None
        self._postgres_less_steady_us = 0
        self._stamped_us = 0

    async def look(self) -> None:
        """Asks PostgreSQL, unless that was done just now.

        Raises:
            Retry: it does not answer, and never has.
        """
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
        """Notes when Redis took entries, one or more: by its clock, which ids never set back."""
        # As bytes: the milliseconds are of thirteen digits until the year 2286.
        newest = max(entries, key=_ID).id
        self._stamped_us = max(self._stamped_us, int(newest.partition(b"-")[0]) * 1000)

    def now_us(self) -> int:
        """By PostgreSQL, in microseconds since the epoch.

        Raises:
            Retry: it has not been asked yet.
        """
        if self._asked is None:
            raise Retry("postgres", "PostgreSQL's time is not known yet")
        return self._steady_us() + self._postgres_less_steady_us

    def latest_us(self) -> int:
        """The later of both clocks, in microseconds since the epoch.

        Raises:
            Retry: as `now_us`.
        """
        return max(self.now_us(), self._stamped_us)

    def _steady_us(self) -> int:
        return int(self._steady_seconds() * SECOND_US)
