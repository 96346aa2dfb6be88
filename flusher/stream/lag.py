"""How far behind the flushers are, by shard.

The functions raise Retry if Redis does not answer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from contract import keys
from contract.errors import Retry
from flusher.stream.shards import ask
from runtime.redis_connection import Command
from runtime.shards import Shards, first_error


@dataclass(frozen=True, slots=True)
class ShardLag:
    """How far behind a shard is: its entries, their records, and how many entries are pending.
    Times are by its Redis server, in milliseconds. `newest_ms` is of the last entry that was
    written, also if it was read and deleted since.
    """

    shard: int
    entries: int
    records: int
    pending: int
    oldest_ms: int | None
    newest_ms: int | None
    now_ms: int

    @property
    def oldest_seconds(self) -> float | None:
        """The age of its oldest entry."""
        return None if self.oldest_ms is None else max(self.now_ms - self.oldest_ms, 0) / 1000


async def measure_lag(servers: Shards, shards: Iterable[int]) -> list[ShardLag]:
    """The lag of each shard whose server answers."""
    commands: dict[int, list[Command]] = {
        shard: [
            ("XLEN", keys.stream(shard)),
            ("GET", keys.joined(shard)),
            ("XINFO", "GROUPS", keys.stream(shard)),
            ("XRANGE", keys.stream(shard), "-", "+", "COUNT", 1),
            ("XREVRANGE", keys.stream(shard), "+", "-", "COUNT", 1),
            ("TIME",),
        ]
        for shard in shards
    }
    replies = await ask(servers, commands, "measuring the lag")
    lags = []
    for shard, (entries, joined, groups, oldest, newest, now) in sorted(replies.items()):
        if first_error((entries, joined, oldest, newest, now)) is not None:
            continue
        seconds, microseconds = map(int, now)
        pending, read_ms = _read_by_group(groups)
        lags.append(
            ShardLag(
                shard,
                entries,
                entries + int(joined or 0) if entries else 0,
                pending,
                _first_ms(oldest),
                max(_first_ms(newest) or 0, read_ms) or None,
                seconds * 1000 + microseconds // 1000,
            )
        )
    return lags


async def oldest_entry_seconds(servers: Shards, shards: Sequence[int]) -> float:
    """The age of the oldest entry of all shards; 0: there is none. All servers have to answer."""
    lags = await measure_lag(servers, shards)
    if len(lags) < len(shards):
        raise Retry("redis_away", "it is unknown what waits in some shards")
    return max((lag.oldest_seconds or 0.0 for lag in lags), default=0.0)


async def count_dead_letters(servers: Shards, shards: Iterable[int]) -> dict[int, int]:
    """The number of dead letters of each shard whose server answers."""
    commands = {shard: [("XLEN", keys.dead_letters(shard))] for shard in shards}
    replies = await ask(servers, commands, "counting dead letters")
    return {shard: count for shard, (count,) in replies.items() if isinstance(count, int)}


def _read_by_group(groups: Sequence[Sequence[Any]] | RedisError) -> tuple[int, int]:
    """How many entries are pending, and when the newest that was ever read was written, or 0."""
    if isinstance(groups, RedisError):
        return 0, 0  # there is no stream yet
    for names_and_values in groups:
        group = dict(zip(names_and_values[::2], names_and_values[1::2], strict=True))
        if group[b"name"] == keys.GROUP.encode():
            return group[b"pending"], _milliseconds(group[b"last-delivered-id"])
    return 0, 0


def _first_ms(messages: Sequence[tuple[bytes, object]]) -> int | None:
    return _milliseconds(messages[0][0]) if messages else None


def _milliseconds(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
