"""The worker: looks every few seconds whether the month has its salt, and rotates when it ends."""

from zoneinfo import ZoneInfo

import structlog

from contract.calendar import SECOND_US
from contract.errors import Retry
from contract.metrics import RotationMetrics
from process.salt_store import Ensured, Outcome, SaltStore
from process.stopping import Stopping
from rotation.status import read_status

LOOK_SECONDS = 5.0
RETRY_SECONDS = 1.0

log = structlog.get_logger()


class Worker:
    """One rotation process; any number may run."""

    def __init__(self, store: SaltStore, zone: ZoneInfo, metrics: RotationMetrics) -> None:
        self._store = store
        self._zone = zone
        self._metrics = metrics
        self.last_outcome: Outcome | None = None

    async def run_once(self) -> Ensured:
        """Makes sure that the current month has its salt, and no other month.

        Raises:
            Retry: Redis does not answer.
        """
        ensured = await self._store.ensure()
        if ensured.outcome not in (Outcome.UNCHANGED, Outcome.CLOCK_WENT_BACK):
            self._metrics.rotations.inc()
            log.warning(
                "a salt was made", outcome=str(ensured.outcome), month=str(ensured.salt.month)
            )
        status = await read_status(self._store, self._zone)
        self._metrics.salt_month_current.set(status.salt_is_current)
        self._metrics.earlier_salts_left.set(len(status.earlier_salts))
        self.last_outcome = ensured.outcome
        return ensured

    async def run(self, stopping: Stopping) -> None:
        """Looks again and again, at the month's end on the dot, until asked to stop."""
        while not stopping.asked:
            try:
                ensured = await self.run_once()
                left = (ensured.salt.ends_us - ensured.server_us) / SECOND_US
                pause = min(LOOK_SECONDS, max(left, 0.01))
            except Retry as error:
                self.last_outcome = None
                log.warning("the salt could not be looked after", why=str(error))
                pause = RETRY_SECONDS
            await stopping.wait(pause)
