"""Packs the records of one write as entries of their streams, without I/O.

An entry costs Redis more than the records in it, so under load the records of a shard share one.
`XLEN` is then less than the number of records. The difference is counted under
`contract.keys.joined`, in the same transaction.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError

from collector.buffer.pending import PendingRecord
from contract import keys
from contract.entry import RECORDS_MAX, join_records
from contract.record import FIELD
from runtime.redis_connection import pack
from runtime.shards import first_error

_ASKING: Final = pack(b"ASKING")
_MULTI: Final = pack(b"MULTI")
_EXEC: Final = pack(b"EXEC")


class PackedEntry(NamedTuple):
    """One entry: its records, its commands, and how many replies they get."""

    pending: Sequence[PendingRecord]
    commands: bytes
    replies: int


def pack_entries(batch: Sequence[PendingRecord], *, together: bool) -> list[PackedEntry]:
    """The entries of a write to one server, in the order of their first records.

    `together`: the records of a shard share entries.
    """
    if not together:
        return list(map(_one, batch))
    by_shard: defaultdict[int | PendingRecord, list[PendingRecord]] = defaultdict(list)
    for pending in batch:
        by_shard[pending if pending.asking else pending.shard].append(pending)
    return [
        _one(some[0]) if len(some) == 1 else _several(some)
        for of_shard in by_shard.values()
        for some in ((of_shard,) if len(of_shard) <= RECORDS_MAX else _portions(of_shard))
    ]


def refusal(replies: Sequence[Any]) -> RedisError | None:
    """The error in the replies to an entry's commands; None: it was appended."""
    last = replies[-1]
    # The replies of a transaction. If only INCRBY failed, the entry is in the stream.
    return first_error((*replies, last[0]) if isinstance(last, list) else replies)


def _one(pending: PendingRecord) -> PackedEntry:
    xadd = _xadd(pending.shard, pending.record)
    if pending.asking:
        return PackedEntry((pending,), _ASKING + xadd, 2)
    return PackedEntry((pending,), xadd, 1)


def _several(some: Sequence[PendingRecord]) -> PackedEntry:
    shard, content = some[0].shard, join_records([pending.record for pending in some])
    return PackedEntry(some, _MULTI + _xadd(shard, content) + _ends_of(shard)[len(some)], 4)


def _xadd(shard: int, content: bytes) -> bytes:
    return b"%b$%d\r\n%b\r\n" % (_beginning_of_xadd(shard), len(content), content)


def _portions(pending: list[PendingRecord]) -> Iterator[list[PendingRecord]]:
    for first in range(0, len(pending), RECORDS_MAX):
        yield pending[first : first + RECORDS_MAX]


@cache
def _ends_of(shard: int) -> list[bytes]:
    """`INCRBY impact:joined:{N} count-1`, then `EXEC`, for each number of records in an entry."""
    joined = keys.joined(shard).encode()
    return [
        pack(b"INCRBY", joined, b"%d" % (count - 1)) + _EXEC for count in range(RECORDS_MAX + 1)
    ]


@cache
def _beginning_of_xadd(shard: int) -> bytes:
    """`XADD stream * e`, packed, without its last word (the content)."""
    words = (b"XADD", keys.stream(shard).encode(), b"*", FIELD)
    return pack(*words).replace(b"*%d" % len(words), b"*%d" % (len(words) + 1), 1)
