"""Which shards exist, and commands and scripts for them.

After a change of STREAM_SHARDS, entries are left in other streams, and for a while some collectors
still append there. So a flusher asks Redis for all streams that exist.

The functions raise Retry if Redis does not answer.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis.exceptions import RedisError

from contract import keys
from runtime.redis_client import is_passing, retry_for
from runtime.redis_connection import Command
from runtime.shards import Shards


async def find_shards(shards: Shards, known: Sequence[int]) -> list[int]:
    """The known shards, and all others that have a stream or dead letters."""
    unknown = set(range(keys.MOST_SHARDS)) - set(known)
    exists: dict[int, list[Command]] = {
        shard: [("EXISTS", keys.stream(shard), keys.dead_letters(shard))] for shard in unknown
    }
    replies = await ask(shards, exists, "looking for shards") if unknown else {}
    found = []
    for shard, (count,) in replies.items():
        if not isinstance(count, RedisError):
            found += [shard] if count else []
        elif not is_passing(count):  # otherwise the shard's server is away
            raise retry_for(count, "looking for shards")
    return sorted([*known, *found])


async def ask(
    shards: Shards, commands: Mapping[int, Sequence[Command]], doing: str
) -> dict[int, list[Any]]:
    """As `Shards.ask`; an error begins with `doing`."""
    try:
        return await shards.ask(commands)
    except RedisError as error:
        raise retry_for(error, doing) from None


async def ask_one(shards: Shards, shard: int, command: Command, doing: str) -> Any:
    """The reply to one command; an error begins with `doing`. A refusal raises Retry, too."""
    ((reply,),) = (await ask(shards, {shard: [command]}, doing)).values()
    if isinstance(reply, RedisError):
        raise retry_for(reply, doing)
    return reply


def script(
    file_name: str, shard: int, other_keys: Sequence[str], *arguments: str | bytes | int
) -> Command:
    """Runs a Lua script, which changes a shard's stream and other keys of the shard in one step."""
    names = (keys.stream(shard), *other_keys)
    return ("EVAL", _script_text(file_name), len(names), *names, *arguments)


@cache
def _script_text(file_name: str) -> str:
    return files("flusher.stream").joinpath(file_name).read_text()
