"""What time it is by the streams' servers."""

from redis.exceptions import RedisError

from contract.calendar import SECOND_US
from runtime.shards import Shards


async def server_clocks(shards: Shards) -> list[int]:
    """The clock of each server that answers, in microseconds since the epoch."""
    clocks: list[int] = []
    try:
        servers = await shards.servers()
    except RedisError:
        return clocks
    for server in servers.values():
        try:
            seconds, microseconds = await server.time()
        except RedisError:
            continue
        clocks.append(seconds * SECOND_US + microseconds)
    return clocks
