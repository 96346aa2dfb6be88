"""Which shards there are: the configured ones, and what a larger `STREAM_SHARDS` has left; and what
one asks them.

While the number of shards changes, some collectors still append by the old number. Nothing that
they append is left behind: whoever drains asks Redis what there is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError

from contract import keys
from runtime.redis_client import retry_for
from runtime.redis_connection import Command
from runtime.shards import Shards


async def find_shards(
    shards: Shards,
    known: Sequence[int],
    names: Sequence[Callable[[int], str]] = (keys.stream, keys.dead_letters),
) -> list[int]:
    """The shards that are known, and every other one that has a key, in order.

    Args:
        shards: where to look.
        known: shards that are taken as given, whether or not they have a key yet.
        names: of the keys that are looked for.

    Raises:
        Retry: Redis does not answer.
    """
    unknown = sorted(set(range(keys.MOST_SHARDS)) - set(known))
    try:
        found = {shard for name in names if unknown for shard in await shards.having(unknown, name)}
    except RedisError as error:
        raise retry_for(error, "looking for shards") from None
    return sorted([*known, *found])


async def ask(
    shards: Shards, commands: Mapping[int, Sequence[Command]], doing: str
) -> dict[int, list[Any]]:
    """As `Shards.ask`.

    Args:
        shards: where they are.
        commands: by shard.
        doing: what for, in an error's words.

    Raises:
        Retry: no server answers.
    """
    try:
        return await shards.ask(commands)
    except RedisError as error:
        raise retry_for(error, doing) from None
