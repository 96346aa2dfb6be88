"""A worker's periodic tasks: new shards, coming months, upgrades that wait in vain."""

from typing import Final

import structlog

from contract.calendar import Month, month_at
from contract.errors import DeadLetter
from contract.flusher_metrics import FlusherMetrics
from flusher.postgres.write import SessionWriter
from flusher.server_time import ServerTime
from flusher.stream.lag import ShardLag, measure_lag
from flusher.stream.read import StreamReader
from flusher.worker_settings import WorkerSettings
from runtime.periodic import Interval

_EVERY_SECONDS: Final = 5.0
_PURGE_SECONDS: Final = 60.0
_MONTHS_AHEAD: Final = 2

log = structlog.get_logger()


class Housekeeping:
    """The periodic tasks of one worker. Its methods raise Retry if a server is away."""

    def __init__(
        self,
        reader: StreamReader,
        writer: SessionWriter,
        metrics: FlusherMetrics,
        server_time: ServerTime,
        settings: WorkerSettings,
        *,
        finds_shards_only: bool,
    ) -> None:
        """`finds_shards_only`: another worker of this process does the other tasks."""
        self._reader = reader
        self._writer = writer
        self._metrics = metrics
        self._server_time = server_time
        self._zone = settings.zone
        self._claim_seconds = settings.claim_seconds
        self._finds_shards_only = finds_shards_only
        self._running = Interval(_EVERY_SECONDS)
        # The first purge waits until the entries of dead flushers are claimed. If such an entry's
        # upgrade is already applied, its row must still be there, so that it is a duplicate.
        self._settling = Interval(2 * settings.claim_seconds)
        self._settling.begin()
        self._purging = Interval(_PURGE_SECONDS)

    @property
    def is_due(self) -> bool:
        """Whether the tasks have never run, or not for some seconds."""
        return self._running.is_over

    async def run_if_due(self) -> bool:
        """Runs the tasks if they are due; returns whether they were."""
        if not self._running.ended():
            return False
        await self._reader.find_shards()
        if self._finds_shards_only:
            return True
        await self._server_time.look()
        this_month = month_at(self._server_time.now_us(), self._zone)
        for ahead in range(_MONTHS_AHEAD + 1):
            await self._make_month(this_month.plus(ahead))
        lags = await measure_lag(self._reader.servers, self._reader.shards)
        await self._take_up_forgotten(lags)
        if self._settling.is_over and self._purging.ended():
            await self._purge()
        return True

    async def _make_month(self, month: Month) -> None:
        try:
            await self._writer.create_months([month])
        except DeadLetter as why:
            # The other months are still flushed.
            log.error(  # noqa: TRY400 - the message of a DeadLetter is complete: no traceback
                "a month that has begun or will begin soon takes no sessions",
                why=str(why),
                to_do="check PostgreSQL's clock; the month's entries become dead letters",
            )

    async def _take_up_forgotten(self, lags: list[ShardLag]) -> None:
        """Queries each shard whose oldest entry is older than a flusher may keep one."""
        for lag in lags:
            if lag.oldest_seconds is None or lag.oldest_seconds < 2 * self._claim_seconds:
                continue
            if count := await self._reader.take_up_forgotten(lag.shard):
                log.warning(
                    "entries that counted as read belonged to no flusher: they are read again",
                    shard=lag.shard,
                    count=count,
                    to_do="nothing is lost; see what removed the group's pending entries: XGROUP "
                    "DELCONSUMER, a restore, a restart that dropped transactions",
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
