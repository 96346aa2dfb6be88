"""When a record counts as stored (`APPEND_DURABILITY`), and the commands that wait for that."""

from enum import StrEnum
from typing import Any, Final

from redis.exceptions import RedisError

from contract.errors import Retry
from runtime.redis_client import retry_for
from runtime.redis_connection import Command

# Milliseconds. Less than a command's time-out, so that the server's answer comes first.
_WAIT_MS: Final = 3000


class Durability(StrEnum):
    """What Redis must have done before a record counts as stored."""

    SERVER = "server"  # acknowledged the command: as durable as its `appendfsync` makes it
    FSYNC = "fsync"  # WAITAOF: its append-only file is on disk (Redis 7.2, Valkey 8)
    REPLICA = "replica"  # WAIT: a replica has it


WAIT_UNTIL_DURABLE: Final[dict[Durability, list[Command]]] = {
    Durability.SERVER: [],
    Durability.FSYNC: [("WAITAOF", 1, 0, _WAIT_MS)],
    Durability.REPLICA: [("WAIT", 1, _WAIT_MS)],
}
"""The command to send after the writes, if there is one."""


def why_not_durable(reply: Any) -> Retry | None:
    """The error that a reply to WAITAOF or WAIT means, or None."""
    if isinstance(reply, RedisError):
        return retry_for(reply, "waiting until it is durable (APPEND_DURABILITY)")
    # WAITAOF replies with a list: this server's disk, then the replicas'. WAIT counts replicas.
    done = reply[0] if isinstance(reply, list) else reply
    return None if done >= 1 else Retry("not_durable", "it was not made durable in time")
