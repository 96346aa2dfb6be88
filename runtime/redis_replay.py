"""Whether writes to a server would survive its restart.

Redis and Valkey read their append-only file as the user `default`, even if nobody may log in as
that user. They check each transaction and script against this user's rights, and drop it completely
if one of its commands is not allowed. The server reports this only in its own log.

Tested: Redis 7.0.15 and Valkey 9.0.0, 9.1.0 and 9.1.1 drop it; Valkey 9.1.2 checks no rights there
(https://github.com/valkey-io/valkey/issues/3983). Redis has fixed it, too
(https://github.com/redis/redis/pull/14545); we did not test in which releases.
"""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from contract import keys
from contract.calendar import Month
from contract.record import FIELD
from runtime.redis_client import is_passing, retry_for
from runtime.redis_connection import Command
from runtime.shards import first_error

_CHECKS_NO_RIGHTS_SINCE: Final = (9, 1, 2)  # Valkey
_STREAM: Final = keys.stream(0)
_JOINED: Final = keys.joined(0)
_DEAD: Final = keys.dead_letters(0)
_SALT: Final = keys.salt(Month(2000, 1))

# The commands that our transactions and scripts, and reading as a group, leave in the append-only
# file. A test compares them with such a file. The server itself writes SELECT, at its beginning.
_SELECT: Final[Command] = ("SELECT", 0)
STREAM_WRITES: Final[Sequence[Command]] = (
    _SELECT,
    ("XADD", _STREAM, "*", FIELD, ""),
    ("XDEL", _STREAM, "0-1"),
    ("XACK", _STREAM, keys.GROUP, "0-1"),
    ("XCLAIM", _STREAM, keys.GROUP, "consumer", 0, "0-1"),
    ("XGROUP", "CREATE", _STREAM, keys.GROUP, "0"),
    ("XGROUP", "SETID", _STREAM, keys.GROUP, "0"),
    ("XGROUP", "CREATECONSUMER", _STREAM, keys.GROUP, "consumer"),
    ("XGROUP", "DELCONSUMER", _STREAM, keys.GROUP, "consumer"),
    ("INCRBY", _JOINED, 1),
    ("DECRBY", _JOINED, 1),
    ("DEL", _JOINED),
    ("XADD", _DEAD, "*", FIELD, ""),
    ("XDEL", _DEAD, "0-1"),
)
SALT_WRITES: Final[Sequence[Command]] = (
    _SELECT,
    ("SET", keys.CURRENT_SALT, ""),
    ("SETRANGE", _SALT, 0, ""),
    ("PEXPIREAT", _SALT, 0),
    ("DEL", _SALT),
    ("XADD", keys.ROTATIONS, "*", "month", ""),
    ("SET", keys.DISPOSAL_DUE, 0),
    ("DEL", keys.DISPOSAL_DUE),
    ("DEL", keys.SALT_HOLDERS),
    ("HSET", keys.SALT_HOLDERS, "holder", ""),
    ("HSET", keys.SCRUB, "field", ""),
    ("SETRANGE", keys.SCRUB, 0, ""),
    ("DEL", keys.SCRUB),
)


class Survival(Enum):
    """What happens to writes when the server restarts."""

    KEPT = "kept"
    DROPPED = "dropped"
    UNKNOWN = "unknown"  # this account may not check


async def survival(redis: Redis, writes: Sequence[Command]) -> Survival:
    """What a restart of a server would do to transactions with these commands.

    For a server without an append-only file it is KEPT: `runtime.redis_checks` reports that fault.

    Raises:
        Retry: it does not answer.
    """
    try:
        info: Mapping[str, Any] = await redis.info("server", "persistence")
        if not info.get("aof_enabled") or _checks_no_rights(info):
            return Survival.KEPT
        pipeline = redis.pipeline(transaction=False)
        for command in writes:
            pipeline.execute_command("ACL", "DRYRUN", "default", *command)
        replies = await pipeline.execute(raise_on_error=False)
    except RedisError as error:
        if isinstance(error, ResponseError) and not is_passing(error):
            return Survival.UNKNOWN
        raise retry_for(error, "checking what a restart would drop") from None
    if first_error(replies) is not None:
        return Survival.UNKNOWN
    return Survival.KEPT if all(reply == b"OK" for reply in replies) else Survival.DROPPED


def _checks_no_rights(info: Mapping[str, Any]) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", str(info.get("valkey_version", "")))
    return numbers is not None and tuple(map(int, numbers.groups())) >= _CHECKS_NO_RIGHTS_SINCE
