"""The regular work in PostgreSQL. It has its own connection, so that no batch waits for it."""

from typing import Final

import structlog

from contract.calendar import month_at
from contract.errors import DeadLetter, Misconfigured, Retry
from contract.flusher_metrics import FlusherMetrics
from flusher.postgres.database import Database
from flusher.postgres.months import DROP_EVERY_SECONDS, MonthKeeper
from flusher.postgres.write import SessionWriter
from flusher.worker_settings import WorkerSettings
from runtime.periodic import Interval, failure_log, repeat
from runtime.stopping import Stopping

_FOLD_SECONDS: Final = 1.0
_MINUTE_SECONDS: Final = 60.0
_MONTHS_AHEAD: Final = 2

log = structlog.get_logger()


class Housekeeping:
    """The regular work of one flusher. Several flushers may do it at the same time."""

    def __init__(
        self,
        database: Database,
        keeper: MonthKeeper,
        metrics: FlusherMetrics,
        settings: WorkerSettings,
    ) -> None:
        """`database` is that of `keeper`."""
        self._database = database
        self._keeper = keeper
        self._writer = SessionWriter(database, settings.zone)
        self._metrics = metrics
        self._zone = settings.zone
        # The first purge waits until the entries of dead flushers are claimed. If such an entry's
        # upgrade is already applied, its row must still be there, so that it is a duplicate.
        self._purging = Interval(2 * settings.claim_seconds)
        self._purging.begin()

    async def run(self, stopping: Stopping) -> None:
        """Repeats all of it, until asked to stop. What fails is tried again after its interval, and
        delays the rest by one turn.
        """
        work = (
            (self._purging, self._purge),
            (Interval(_MINUTE_SECONDS), self._make_coming_months),
            (Interval(_MINUTE_SECONDS), self._measure),
            (Interval(_MINUTE_SECONDS), self._keeper.close),
            (Interval(DROP_EVERY_SECONDS), self._keeper.drop),
            (Interval(_FOLD_SECONDS), self._keeper.fold),
        )

        async def turn() -> None:
            for interval, act in work:
                if interval.ended():
                    await act()

        report = failure_log(
            "regular work in PostgreSQL has to wait",
            "regular work in PostgreSQL goes on",
            "nothing at first, since the views stay exact; check that PostgreSQL is up",
        )
        # No error of PostgreSQL is a reason to end the flusher.
        passing = (Retry, DeadLetter, Misconfigured)
        await repeat(turn, stopping, _FOLD_SECONDS, report=report, passing=passing)

    async def _make_coming_months(self) -> None:
        this_month = month_at(await self._writer.server_us(), self._zone)
        for ahead in range(_MONTHS_AHEAD + 1):
            try:
                await self._writer.create_months([this_month.plus(ahead)])
            except DeadLetter as why:
                # The other months are still flushed.
                log.error(  # noqa: TRY400 - the message of a DeadLetter is complete: no traceback
                    "a month that has begun or will begin soon takes no sessions",
                    why=str(why),
                    to_do="check PostgreSQL's clock; the month's entries become dead letters",
                )

    async def _purge(self) -> None:
        given_up = await self._writer.purge()
        self._metrics.upgrades_given_up.inc(given_up)
        if given_up:
            log.warning(
                "upgrades were given up: their session never came",
                count=given_up,
                to_do="nothing for a few; for many, see whether dead letters hold sessions",
            )

    async def _measure(self) -> None:
        async with self._database.connection() as connection:
            checked_at = await connection.fetchval("SELECT checked_at FROM flusher.state")
        self._metrics.counts_checked.set(0 if checked_at is None else checked_at.timestamp())
