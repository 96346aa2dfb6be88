"""Whether a server answers: asked every few seconds, whatever else has to wait.

Each server has a watch of its own, so that one that is away is never taken for the other.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from contract.errors import Misconfigured, Retry
from runtime.outage import Outage
from runtime.stopping import Stopping

_EVERY_SECONDS: Final = 5.0
# One that hangs is no contact, and must not be waited for when this process stops.
_ANSWER_SECONDS: Final = 10.0
# Of a server that was lost a moment ago nobody needs to know: the streams hold what comes.
_LOST_SECONDS: Final = 30.0

log = structlog.get_logger()


class ServerWatch:
    """Looks at one server again and again."""

    def __init__(self, server: str, look: Callable[[], Awaitable[None]]) -> None:
        """`server` is its name for people. `look` asks it something; Retry: it does not answer."""
        self._server = server
        self._look = look
        self._last_contact: float | None = None
        self._why = ""
        self._away = f"{server} does not answer"
        self._outage = Outage(f"{server} answers again")

    @property
    def wrong(self) -> str | None:
        """What is wrong, for an operator; None: it has answered lately."""
        last = self._last_contact
        if last is not None and time.monotonic() - last <= _LOST_SECONDS:
            return None
        return f"{self._server} has not answered recently" + (f": {self._why}" if self._why else "")

    async def run(self, stopping: Stopping) -> None:
        """Until asked to stop."""
        pause = 0.0
        while not await stopping.wait(pause):
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._look()
            except (Retry, Misconfigured) as error:
                self._fails(str(error))
            except TimeoutError:
                self._fails(f"no answer within {_ANSWER_SECONDS:g} s")
            else:
                self._last_contact, self._why = time.monotonic(), ""
                self._outage.works()
            pause = _EVERY_SECONDS

    def _fails(self, why: str) -> None:
        self._why = why
        self._outage.fails()
        log.warning(self._away, why=why, to_do="see that it is up")
