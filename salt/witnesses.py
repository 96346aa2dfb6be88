"""The clocks with which the salt server's clock is compared before a month may end.

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
            streams: the streams' servers. If one is also the salt's server, it adds nothing.
        """
        self._clock = clock
        self._streams = streams

    async def ask(self) -> list[int]:
        """The time of each clock that answers, in microseconds."""
        return [*await server_clocks(self._streams), self._clock()]
