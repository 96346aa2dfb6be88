"""Checks every few seconds whether a server answers, independently of all other work."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

from contract.errors import Misconfigured, Retry
from runtime.periodic import failure_log, repeat
from runtime.stopping import Stopping

_EVERY_SECONDS: Final = 5.0
# A server that hangs counts as away, and must not delay the end of this process.
_ANSWER_SECONDS: Final = 10.0
# A shorter outage needs no report, because the streams hold what arrives.
_LOST_SECONDS: Final = 30.0


class ServerWatch:
    """Checks one server repeatedly."""

    def __init__(self, server: str, query: Callable[[], Awaitable[None]]) -> None:
        """`server`: its name for people. `query` asks it for something, and raises Retry if it is
        away.
        """
        self._server = server
        self._query = query
        self._last_contact = -math.inf
        self._why = ""

    @property
    def wrong(self) -> str | None:
        """The problem, for an operator; None: it has answered recently."""
        if time.monotonic() - self._last_contact <= _LOST_SECONDS:
            return None
        return f"{self._server} has not answered recently" + (f": {self._why}" if self._why else "")

    async def run(self, stopping: Stopping) -> None:
        report = failure_log(
            f"{self._server} does not answer",
            f"{self._server} answers again",
            "check that it is up",
        )
        passing = (Retry, Misconfigured, TimeoutError)
        await repeat(self._check, stopping, _EVERY_SECONDS, report=report, passing=passing)

    async def _check(self) -> None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._query()
        except TimeoutError:
            self._why = f"no answer within {_ANSWER_SECONDS:g} s"
            raise TimeoutError(self._why) from None
        except (Retry, Misconfigured) as error:
            self._why = str(error)
            raise
        self._last_contact, self._why = time.monotonic(), ""
