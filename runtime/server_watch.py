"""Checks every few seconds whether a server answers, whatever else has to wait.

Each server has its own watch, so that it is clear which one is away.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from contract.errors import Misconfigured, Retry
from runtime.periodic import FailureLog, repeat
from runtime.stopping import Stopping

_EVERY_SECONDS: Final = 5.0
# One that hangs is no contact, and must not be waited for when this process stops.
_ANSWER_SECONDS: Final = 10.0
# A server that was lost a moment ago needs no line: the streams hold what comes.
_LOST_SECONDS: Final = 30.0


class ServerWatch:
    """Checks one server repeatedly."""

    def __init__(self, server: str, look: Callable[[], Awaitable[None]]) -> None:
        """`server` is its name for people. `look` queries it; Retry means that it is away."""
        self._server = server
        self._look = look
        self._last_contact: float | None = None
        self._why = ""
        self._failure_log = FailureLog(
            f"{server} does not answer", f"{server} answers again", "see that it is up"
        )

    @property
    def wrong(self) -> str | None:
        """What is wrong, for an operator; None: it has answered recently."""
        last = self._last_contact
        if last is not None and time.monotonic() - last <= _LOST_SECONDS:
            return None
        return f"{self._server} has not answered recently" + (f": {self._why}" if self._why else "")

    async def run_once(self) -> None:
        """Checks once.

        Raises:
            Misconfigured, Retry, TimeoutError: it does not answer.
        """
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._look()
        except TimeoutError:
            self._why = f"no answer within {_ANSWER_SECONDS:g} s"
            raise TimeoutError(self._why) from None
        except (Retry, Misconfigured) as error:
            self._why = str(error)
            raise
        self._last_contact, self._why = time.monotonic(), ""

    async def run(self, stopping: Stopping) -> None:
        """Until asked to stop."""
        passing = (Retry, Misconfigured, TimeoutError)
        await repeat(
            self.run_once, stopping, _EVERY_SECONDS, trouble=self._failure_log, passing=passing
        )
