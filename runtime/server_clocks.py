"""What time it is by the streams' servers."""

import asyncio

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contract.calendar import SECOND_US
from runtime.shards import Shards


async def server_clocks(shards: Shards) -> list[int]:
    """The clock of each server that answers, in microseconds since the epoch."""
    try:
        servers = await shards.servers()
    except RedisError:
        return []
    clocks = await asyncio.gather(*(_clock(server) for server in servers.values()))
    return [clock for clock in clocks if clock is not None]


async def _clock(server: Redis) -> int | None:
    try:
        seconds, microseconds = await server.time()
    except RedisError:
        return None
    return int(seconds * SECOND_US + microseconds)
