"""What a server says is measured every few seconds, whatever the process waits for meanwhile."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from contract.errors import Retry
from process.stopping import Stopping

EVERY_SECONDS: Final = 5.0


async def keep_measuring(measure: Callable[[], Awaitable[None]], stopping: Stopping) -> None:
    """Measures again and again, until asked to stop.

    Where a server is away nothing is set, and what was measured grows old
    (`contract/fresh_gauge.py`); that it is away, whoever works with it says.
    """
    while not stopping.asked:
        with suppress(Retry):
            await measure()
        await stopping.wait(EVERY_SECONDS)
