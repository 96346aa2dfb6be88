"""What a worker does beside batches, every few seconds: shards, months, what waits in vain."""

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
    """One worker's. Of a worker that helps another it is only to find shards."""

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
        """As the worker's; `finds_shards_only`: another worker of the process does the rest."""
        self._reader = reader
        self._writer = writer
        self._metrics = metrics
        self._server_time = server_time
        self._zone = settings.zone
        self._claim_seconds = settings.claim_seconds
        self._finds_shards_only = finds_shards_only
        self._running = Interval(_EVERY_SECONDS)
        # Not before whatever an earlier flusher left behind has been claimed: an entry whose
        # upgrade was applied, but not acknowledged, must find it known.
        self._settling = Interval(2 * settings.claim_seconds)
        self._settling.begin()
        self._purging = Interval(_PURGE_SECONDS)

    @property
    def is_due(self) -> bool:
        """Whether it was never done, or some seconds ago."""
        return self._running.is_over

    async def run_if_due(self) -> bool:
        """Does all of it, every few seconds; whether it did.

        Raises:
            Retry: a server is away.
        """
        if not self._running.ended():
            return False
        await self.find_shards()
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
            # Whatever else there is to flush goes on.
            log.error(  # noqa: TRY400 - a decision, whose words say all: no traceback
                "a month that is to come, or has just begun, takes no sessions",
                why=str(why),
                to_do="see that PostgreSQL's clock is right; what comes for it is set aside",
            )

    async def find_shards(self) -> None:
        """Finds streams beyond those that are known, and makes their consumer groups.

        Raises:
            Retry: Redis is away.
        """
        if new := await self._reader.find_shards():
            log.info("shards beyond STREAM_SHARDS were found: they are drained too", shards=new)
            await self._reader.create_groups()

    async def _take_up_forgotten(self, lags: list[ShardLag]) -> None:
        """Looks where an entry is older than any that a flusher has in hand may become."""
        for lag in lags:
            if lag.oldest_seconds is None or lag.oldest_seconds < 2 * self._claim_seconds:
                continue
            if count := await self._reader.take_up_forgotten(lag.shard):
                log.warning(
                    "entries that counted as read were in no flusher's hands: they are read again",
                    shard=lag.shard,
                    count=count,
                    to_do="nothing is lost; see what took the group's pending entries: XGROUP "
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
