"""Time that passes only when a test says so."""

import asyncio
from collections.abc import Callable

from runtime.stopping import Stopping


class Steady:
    """A monotonic clock."""

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


class Pauses(Stopping):
    """Pauses take no time: `on_wait` is called instead. Asked to stop after so many."""

    def __init__(self, count: int, on_wait: Callable[[float], None] = lambda _: None) -> None:
        super().__init__()
        self._count = count
        self._on_wait = on_wait
        self.seconds: list[float] = []

    async def wait(self, seconds: float | None = None) -> bool:
        assert seconds is not None
        self.seconds.append(seconds)
        self._on_wait(seconds)
        if len(self.seconds) >= self._count:
            self.set()
        await asyncio.sleep(0)
        return self.asked
