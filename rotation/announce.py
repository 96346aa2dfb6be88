"""Informs the flusher of new salts, so that reports can show which counts they affect.

It uses the streams, because the flusher never connects to the salt's server. Each notice is sent at
least once: if it was sent but not recorded as sent, it is sent again with the same id.
"""

import hashlib
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contract import keys
from contract.calendar import Month
from contract.record import FIELD, SaltMade, encode
from runtime.redis_client import as_retry
from runtime.redis_connection import Command
from runtime.shards import Shards
from salt.term import made_at_us


async def announce(salt_redis: Redis, shards: Shards) -> int:
    """Copies new entries of the record of rotations to the streams; returns how many.

    Raises:
        Retry: a server does not answer.
    """
    with as_retry("announcing a salt"):
        last: Any = await salt_redis.get(keys.ROTATIONS_ANNOUNCED)
        rotations: Any = await salt_redis.xrange(
            keys.ROTATIONS, min=f"({last.decode()}" if last else "-"
        )
        for entry_id, fields in rotations:
            event = _event(entry_id, fields)
            shard = keys.shard_of(event.id, shards.count)
            notice: Command = ("XADD", keys.stream(shard), "*", FIELD, encode(event))
            ((reply,),) = (await shards.ask({shard: [notice]})).values()
            if isinstance(reply, RedisError):
                raise reply
            await salt_redis.set(keys.ROTATIONS_ANNOUNCED, entry_id)
    return len(rotations)


def _event(entry_id: bytes, fields: dict[bytes, bytes]) -> SaltMade:
    return SaltMade(
        id=hashlib.sha256(b"salt made " + entry_id).digest()[:16],
        month=Month.parse(fields[b"month"].decode()),
        at_us=made_at_us(fields),
        outcome=fields[b"outcome"].decode(),
    )
