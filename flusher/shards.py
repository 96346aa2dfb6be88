"""Which shards there are: the configured ones, and what a larger `STREAM_SHARDS` has left.

While the number of shards changes, some collectors still append by the old number. Nothing that
they append is left behind: whoever drains asks Redis what there is.
"""

from collections.abc import Callable, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contract import keys
from process.redis_client import retry_for


async def find_shards(
    redis: Redis, known: Sequence[int], name: Callable[[int], str] = keys.stream
) -> list[int]:
    """The shards that are known, and every other one that has a key, in order.

    One command where there is no other.

    Args:
        redis: the streams' server.
        known: shards that are taken as given, whether or not they have a key yet.
        name: of a shard's key: `keys.stream` or `keys.dead_letters`.

    Raises:
        Retry: Redis does not answer.
    """
    unknown = sorted(set(range(keys.MOST_SHARDS)) - set(known))
    try:
        if not unknown or not await redis.exists(*map(name, unknown)):
            return sorted(known)
        pipeline = redis.pipeline(transaction=False)
        for shard in unknown:
            pipeline.exists(name(shard))
        there = await pipeline.execute()
    except RedisError as error:
        raise retry_for(error, "looking for shards") from None
    found = [shard for shard, exists in zip(unknown, there, strict=True) if exists]
    return sorted([*known, *found])
