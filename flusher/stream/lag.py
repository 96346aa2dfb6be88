"""How far behind the flushers are, by shard.

The functions raise Retry if Redis does not answer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import RedisError

from contract import keys
from contract.errors import Retry
from flusher.stream.shards import ask
from runtime.redis_connection import Command
from runtime.shards import Shards, first_error


@dataclass(frozen=True, slots=True)
class ShardLag:
    """How far behind a shard is: its entries, the records in them, how many entries are pending,
    and its dead letters. All times are by its Redis server.
    """

    shard: int
    entries: int
    records: int
    pending: int
    oldest_seconds: float | None
    """The age of its oldest entry; None: it has no entry."""
    last_write: datetime | None
    """When its last entry was appended, also if that was deleted since; None: never."""
    dead_letters: int


async def measure_lag(servers: Shards, shards: Iterable[int]) -> list[ShardLag]:
    """The lag of each shard whose server answers."""
    commands: dict[int, list[Command]] = {
        shard: [
            ("XLEN", keys.stream(shard)),
            ("GET", keys.joined(shard)),
            ("XPENDING", keys.stream(shard), keys.GROUP),
            ("XRANGE", keys.stream(shard), "-", "+", "COUNT", 1),
            ("XINFO", "STREAM", keys.stream(shard)),
            ("TIME",),
            ("XLEN", keys.dead_letters(shard)),
        ]
        for shard in shards
    }
    replies = await ask(servers, commands, "measuring the lag")
    lags = []
    for shard, (entries, joined, pending, oldest, stream, now, dead) in sorted(replies.items()):
        if first_error((entries, joined, oldest, now, dead)) is not None:
            continue
        oldest_ms = _milliseconds(oldest[0][0]) if oldest else None
        seconds, microseconds = map(int, now)
        age_ms = seconds * 1000 + microseconds // 1000 - (oldest_ms or 0)
        lags.append(
            ShardLag(
                shard,
                entries,
                entries + int(joined or 0) if entries else 0,
                # An error: there is no group yet, so nothing was ever read.
                0 if isinstance(pending, RedisError) else pending[0],
                None if oldest_ms is None else max(age_ms, 0) / 1000,
                _last_write(stream),
                dead,
            )
        )
    return lags


async def oldest_entry_seconds(servers: Shards, shards: Sequence[int]) -> float:
    """The age of the oldest entry of all shards; 0: there is none. All servers have to answer."""
    lags = await measure_lag(servers, shards)
    if len(lags) < len(shards):
        raise Retry("redis_away", "it is unknown what waits in some shards")
    return max((lag.oldest_seconds or 0.0 for lag in lags), default=0.0)


def _last_write(stream: Sequence[Any] | RedisError) -> datetime | None:
    if isinstance(stream, RedisError):
        return None  # there is no stream yet
    last_ms = _milliseconds(stream[stream.index(b"last-generated-id") + 1])
    return datetime.fromtimestamp(last_ms / 1000, UTC) if last_ms else None


def _milliseconds(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
