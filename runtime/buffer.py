"""How much memory Redis has left for the streams, and for how long at the present rate."""

from dataclasses import dataclass
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from runtime.redis_client import as_retry
from runtime.shards import Shards


@dataclass(frozen=True, slots=True)
class Buffer:
    """Redis's memory at one time, in bytes, and that time in seconds of a monotonic clock."""

    used_bytes: int
    most_bytes: int
    at: float

    @property
    def used_ratio(self) -> float:
        return self.used_bytes / max(self.most_bytes, 1)

    def seconds_left(self, before: "Buffer") -> float | None:
        """The time until it is full at the rate since `before`; None: it does not grow."""
        grown = self.used_bytes - before.used_bytes
        if grown <= 0 or self.at <= before.at:
            return None
        return (self.most_bytes - self.used_bytes) * (self.at - before.at) / grown


async def read_buffer(shards: Shards, at: float) -> Buffer:
    """Asks Redis for its memory: `maxmemory`, or the machine's memory if that is not set.

    Of several servers, it returns that of the server with the least memory left.

    Raises:
        Retry: Redis does not answer.
    """
    buffers = []
    failure: RedisError = RedisConnectionError("no server has a shard")
    with as_retry("reading Redis's memory"):
        for server in (await shards.servers()).values():
            try:
                info: dict[str, Any] = await server.info("memory")
            except RedisError as error:
                failure = error
                continue
            most = int(info.get("maxmemory") or 0) or int(info.get("total_system_memory") or 0)
            buffers.append(Buffer(int(info["used_memory"]), most, at))
        if not buffers:
            raise failure
    return min(buffers, key=lambda buffer: buffer.most_bytes - buffer.used_bytes)
