"""How much memory Redis has left for the streams."""

from dataclasses import dataclass
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from runtime.redis_client import as_retry
from runtime.shards import Shards


@dataclass(frozen=True, slots=True)
class Buffer:
    """Redis's memory, in bytes. `most_bytes`: its `maxmemory`, or else the machine's memory."""

    used_bytes: int
    most_bytes: int

    @property
    def used_ratio(self) -> float:
        return self.used_bytes / max(self.most_bytes, 1)


async def read_buffer(shards: Shards) -> Buffer:
    """Asks Redis for its memory; of several servers, that with the least memory left.

    Raises:
        Retry: Redis does not answer.
    """
    buffers = []
    failure: RedisError = RedisConnectionError("no server has a shard")
    with as_retry("reading Redis's memory"):
        for server in (await shards.servers()).values():
            try:
                buffers.append(_buffer(await server.info("memory")))
            except RedisError as error:
                failure = error
        if not buffers:
            raise failure
    return min(buffers, key=lambda buffer: buffer.most_bytes - buffer.used_bytes)


def _buffer(info: dict[str, Any]) -> Buffer:
    most = int(info.get("maxmemory") or 0) or int(info.get("total_system_memory") or 0)
    return Buffer(int(info["used_memory"]), most)
