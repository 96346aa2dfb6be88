"""The clocks with which the salt server's clock is compared before a month may end.

No single clock ends a month: docs/decisions/0016-no-single-clock-ends-a-month.md.
"""

import asyncio
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime.clock import Clock
from runtime.shards import Shards
from salt.term import microseconds


async def ask_witnesses(clock: Clock, streams: Shards) -> list[int]:
    """The time of this machine's clock and of each streams' server that answers, in microseconds.

    If a streams' server is also the salt's server, its answer adds nothing.
    """
    servers: dict[int, Redis] = {}
    with suppress(RedisError):
        servers = await streams.servers()
    times = await asyncio.gather(*map(_server_us, servers.values()))
    return [*(time for time in times if time is not None), clock()]


async def _server_us(server: Redis) -> int | None:
    try:
        return microseconds(await server.time())
    except RedisError:
        return None
