"""Whose clocks the salt server's is held beside before a month may end.

No single clock ends a month: docs/decisions/0016-no-single-clock-ends-a-month.md.
"""

from runtime.clock import Clock
from runtime.server_clocks import server_clocks
from runtime.shards import Shards


class Witnesses:
    """This machine, and the streams' servers."""

    def __init__(self, clock: Clock, streams: Shards) -> None:
        """
        Args:
            clock: this machine's.
            streams: where the sessions go. The same server as the salt's says nothing new.
        """
        self._clock = clock
        self._streams = streams

    async def ask(self) -> list[int]:
        """What time it is by each that answers, in microseconds."""
        return [*await server_clocks(self._streams), self._clock()]
