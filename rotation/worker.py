"""The worker: checks every few seconds whether the month has its salt, and rotates at its end."""

import time
from collections.abc import Awaitable, Callable

import structlog

from contract.calendar import SECOND_US
from contract.errors import ClocksDisagree, Retry
from contract.metrics import RotationMetrics
from rotation.status import Status, read_status
from runtime.periodic import failure_log, repeat
from runtime.service_manager import Beat
from runtime.stopping import Stopping
from salt.disposal import SaltDisposal
from salt.report import Report, log_doubt, log_outcome, log_report
from salt.store import SaltStore
from salt.term import Ensured, Outcome

_CHECK_SECONDS = 5.0
_RETRY_SECONDS = 1.0

log = structlog.get_logger()


class Worker:
    """One rotation process; any number may run."""

    def __init__(
        self,
        store: SaltStore,
        disposal: SaltDisposal,
        announce: Callable[[], Awaitable[object]],
        metrics: RotationMetrics,
        has_made: Callable[[], None] = lambda: None,
    ) -> None:
        """`announce` informs the flusher of new salts. `has_made` is called when this process has
        made a salt.
        """
        self._has_made = has_made
        self._store = store
        self._disposal = disposal
        self._announce = announce
        self._metrics = metrics
        self._is_well = False
        self._clock_doubt: str | None = None

    def checks(self) -> dict[str, str | None]:
        """The checks of `/readyz`: for each the problem, or None."""
        return {
            "salt": None if self._is_well else "the salt could not be checked or replaced",
            "clocks": self._clock_doubt,
        }

    async def run_once(
        self, *, replace: bool = False, again: bool = False
    ) -> tuple[Ensured, Report | None]:
        """Makes sure that the current month has its salt, and that nothing of another is left.

        Args:
            replace: make a new salt even if the month has one.
            again: repeat a disposal that a server has refused in part, because an operator may have
                allowed it since.

        Returns:
            What was done about the salt, and the report of a disposal if one was due.

        Raises:
            ClocksDisagree: nothing was done, because clocks contradict each other.
            Retry: Redis does not answer.
        """
        try:
            ensured = await self._store.ensure(replace=replace)
        except ClocksDisagree as error:
            self._doubt(str(error))
            raise
        self._clock_doubt = None
        if ensured.outcome is Outcome.CLOCK_WENT_BACK:
            self._doubt(f"the salt of {ensured.term.month}, a future month, is in force")
        elif ensured.outcome is not Outcome.UNCHANGED:
            self._metrics.rotations.inc()
            self._has_made()
            log_outcome(ensured)
        if ensured.other_calendar and ensured.outcome is Outcome.UNCHANGED:
            log.error(
                "the salt's expiry did not follow this calendar and was corrected",
                month=str(ensured.term.month),
                to_do="nothing if CALENDAR_TIMEZONE was just changed; if this repeats, rotation "
                "processes have different values of it",
            )
        await self._disposal.holders.note()
        report = None
        due_since = await self._disposal.due_since()
        if due_since is None and again:
            last = await self._disposal.last_report()
            due_since = 0 if last is not None and last.refused else None
        if due_since is not None:
            report = await self._disposal.dispose(due_since)
            log_report(report)
        await self.measure()
        await self._announce()
        return ensured, report

    def _doubt(self, why: str) -> None:
        self._clock_doubt = why
        self._metrics.clocks_disagreed.inc()
        log_doubt("the salt stays as it is: clocks contradict each other", why)

    async def status(self) -> Status:
        """What the salt's server reports."""
        return await read_status(self._store, self._disposal)

    async def measure(self) -> None:
        """Sets the metrics of the salts. It also runs beside a disposal, which may take minutes."""
        status = await self.status()
        self._metrics.salt_month_current.set(status.salt_is_current)
        self._metrics.earlier_salts_left.set(status.earlier_salts_left)
        self._metrics.disposal_unverified.set(status.disposal_unverified)

    async def run(self, stopping: Stopping, beat: Beat) -> None:
        """Checks repeatedly, and exactly at the month's end, until asked to stop."""
        pause = _RETRY_SECONDS

        async def turn() -> None:
            nonlocal pause
            beat()
            began, pause = time.monotonic(), _RETRY_SECONDS
            try:
                ensured, _ = await self.run_once()
            except Retry:
                self._is_well = False
                raise
            self._is_well = True
            left = (ensured.term.ends_us - ensured.server_us) / SECOND_US
            left -= time.monotonic() - began  # a disposal can take long
            pause = min(_CHECK_SECONDS, max(left, 0.01))

        report = failure_log(
            "the salt could not be looked after",
            "the salt is looked after again",
            "check that the salt's Redis is up and accepts commands",
        )
        await repeat(turn, stopping, lambda: pause, report=report)
