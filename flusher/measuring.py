"""Measures the streams in Redis, their dead letters, and the memory that is left."""

import math
import time

from contract.flusher_metrics import FlusherMetrics
from flusher.stream.lag import measure_lag
from flusher.stream.read import StreamReader
from runtime.buffer import Buffer, read_buffer


class Measuring:
    """Measures independently of the worker, because it matters most while that is stuck."""

    def __init__(self, reader: StreamReader, metrics: FlusherMetrics) -> None:
        self._reader = reader
        self._metrics = metrics
        self._buffer: Buffer | None = None

    async def measure(self) -> None:
        """Sets the metrics of all shards whose server answers.

        Raises:
            Retry: Redis is away.
        """
        servers, shards = self._reader.servers, self._reader.shards
        lags = await measure_lag(servers, shards)
        for lag in lags:
            self._metrics.stream_entries.set(lag.records, lag.shard)
            self._metrics.stream_pending.set(lag.pending, lag.shard)
            self._metrics.oldest_entry_seconds.set(lag.oldest_seconds or 0, lag.shard)
        self._metrics.dead_letters.set(sum(lag.dead_letters for lag in lags))
        buffer = await read_buffer(servers, time.monotonic())
        left = None if self._buffer is None else buffer.seconds_left(self._buffer)
        self._buffer = buffer
        self._metrics.buffer_used_ratio.set(buffer.used_ratio)
        self._metrics.buffer_seconds_left.set(math.inf if left is None else left)
