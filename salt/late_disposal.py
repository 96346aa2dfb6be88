"""Removes copies of a destroyed salt if rotation, whose work this is, does not run."""

import structlog

from contract.calendar import SECOND_US
from runtime.periodic import FailureLog, repeat
from runtime.stopping import Stopping
from salt.disposal import SaltDisposal
from salt.report import log_report
from salt.store import SaltStore

CHECK_SECONDS = 10.0
# Rotation checks every five seconds, so it would have begun by then.
LATE_SECONDS = 20.0

log = structlog.get_logger()


class LateDisposal:
    """Checks repeatedly whether a disposal is overdue."""

    def __init__(self, store: SaltStore, disposal: SaltDisposal) -> None:
        self._store = store
        self._disposal = disposal

    async def run_once(self) -> bool:
        """Does an overdue disposal; returns whether there was one. Retry: Redis does not answer."""
        due_since_ms = await self._disposal.due_since()
        if due_since_ms is None:
            return False
        late_us = await self._store.server_us() - due_since_ms * 1000
        if late_us < LATE_SECONDS * SECOND_US:
            return False
        log.warning(
            "rotation has not removed a destroyed salt: this process does it; does rotation run?"
        )
        log_report(await self._disposal.dispose(due_since_ms))
        return True

    async def run(self, stopping: Stopping) -> None:
        failure_log = FailureLog(
            "copies of a destroyed salt could not be searched for",
            "copies of a destroyed salt can be searched for again",
            "check that the salt's Redis is up",
        )
        await stopping.wait(CHECK_SECONDS)  # so that a rotation that starts now comes first
        await repeat(self.run_once, stopping, CHECK_SECONDS, trouble=failure_log)
