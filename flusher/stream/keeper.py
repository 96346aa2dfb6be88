"""The regular work on the streams in Redis: finds new shards, measures all of them, and takes up
entries that no consumer has.
"""

import math
import time

import structlog

from contract.flusher_metrics import FlusherMetrics
from flusher.stream.lag import measure_lag
from flusher.stream.read import StreamReader
from runtime.buffer import Buffer, read_buffer

log = structlog.get_logger()


class StreamKeeper:
    """Works independently of the workers: measuring matters most while these are stuck."""

    def __init__(
        self,
        reader: StreamReader,
        helpers_reader: StreamReader,
        metrics: FlusherMetrics,
        claim_seconds: float,
    ) -> None:
        self._reader = reader
        self._helpers_reader = helpers_reader
        self._metrics = metrics
        self._claim_seconds = claim_seconds
        self._buffer: Buffer | None = None

    async def run_once(self) -> None:
        """Does all of it, for the shards whose server answers.

        Raises:
            Retry: Redis is away.
        """
        await self._reader.find_shards()
        self._helpers_reader.shards = self._reader.shards
        lags = await measure_lag(self._reader.servers, self._reader.shards)
        for lag in lags:
            self._metrics.stream_entries.set(lag.records, lag.shard)
            self._metrics.stream_pending.set(lag.pending, lag.shard)
            self._metrics.oldest_entry_seconds.set(lag.oldest_seconds or 0, lag.shard)
        self._metrics.dead_letters.set(sum(lag.dead_letters for lag in lags))
        await self._measure_buffer()
        for lag in lags:
            if lag.oldest_seconds is not None and lag.oldest_seconds >= 2 * self._claim_seconds:
                await self._take_up_forgotten(lag.shard)

    async def _measure_buffer(self) -> None:
        buffer = await read_buffer(self._reader.servers, time.monotonic())
        left = None if self._buffer is None else buffer.seconds_left(self._buffer)
        self._buffer = buffer
        self._metrics.buffer_used_ratio.set(buffer.used_ratio)
        self._metrics.buffer_seconds_left.set(math.inf if left is None else left)

    async def _take_up_forgotten(self, shard: int) -> None:
        """Takes up entries of a shard whose oldest entry is older than a flusher may keep one."""
        if count := await self._reader.take_up_forgotten(shard):
            log.warning(
                "entries that counted as read belonged to no flusher: they are read again",
                shard=shard,
                count=count,
                to_do="nothing is lost; see what removed the group's pending entries: XGROUP "
                "DELCONSUMER, a restore, a restart that dropped transactions",
            )
