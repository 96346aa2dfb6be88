"""Removes a destroyed salt's copies if no rotation process does.

This is rotation's work, but a month's salt must end with its month even if rotation does not run.
"""

import structlog

from contract.calendar import SECOND_US
from runtime.periodic import FailureLog, repeat
from runtime.stopping import Stopping
from salt.disposal import SaltDisposal
from salt.report import log_report
from salt.store import SaltStore

LOOK_SECONDS = 10.0
# Rotation looks every five seconds: by then it would have begun.
LATE_SECONDS = 20.0

log = structlog.get_logger()


class LateDisposal:
    """Checks now and then whether a disposal is overdue."""

    def __init__(self, store: SaltStore, disposal: SaltDisposal) -> None:
        self._store = store
        self._disposal = disposal

    async def run_once(self) -> bool:
        """Does an overdue disposal; returns whether there was one.

        Raises:
            Retry: Redis does not answer.
        """
        due_since_ms = await self._disposal.due_since()
        if due_since_ms is None:
            return False
        late_us = await self._store.server_us() - due_since_ms * 1000
        if late_us < LATE_SECONDS * SECOND_US:
            return False
        log.warning("rotation has not removed a destroyed salt: doing it here; does rotation run?")
        log_report(await self._disposal.dispose(due_since_ms))
        return True

    async def run(self, stopping: Stopping) -> None:
        """Checks until asked to stop."""
        failure_log = FailureLog(
            "copies of a destroyed salt could not be searched for",
            "copies of a destroyed salt can be searched for again",
            "see that the salt's Redis is up",
        )
        await stopping.wait(LOOK_SECONDS)  # a rotation that starts with it comes first
        await repeat(self.run_once, stopping, LOOK_SECONDS, trouble=failure_log)
