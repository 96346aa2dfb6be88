"""Packs the records of one write as entries of their streams, without I/O.

An entry costs Redis more than the records in it, so under load the records of a shard share one.
`XLEN` is then less than the number of records. The difference is counted under
`contract.keys.joined`, in the same transaction.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError

from collector.buffer.pending import PendingRecord
from contract import keys
from contract.entry import RECORDS_MAX, join_records
from contract.record import FIELD
from runtime.redis_connection import pack

_ASKING: Final = pack(b"ASKING")
_MULTI: Final = pack(b"MULTI")
_EXEC: Final = pack(b"EXEC")


class PackedEntry(NamedTuple):
    """One entry: its records, its commands, and how many replies they get."""

    pending: Sequence[PendingRecord]
    commands: bytes
    replies: int


class EntryPacker:
    """Packs records for one server."""

    def __init__(self) -> None:
        # By shard: the beginning of its XADD, and for each number of records the transaction's end.
        self._xadds: dict[int, bytes] = {}
        self._ends: dict[int, list[bytes]] = {}

    def pack(self, batch: Sequence[PendingRecord], *, together: bool) -> list[PackedEntry]:
        """The entries of a write, in the order of their first records.

        `together`: the records of a shard share entries.
        """
        if not together:
            return list(map(self._one, batch))
        by_shard: defaultdict[int | PendingRecord, list[PendingRecord]] = defaultdict(list)
        for pending in batch:
            by_shard[pending if pending.asking else pending.shard].append(pending)
        return [
            self._one(some[0]) if len(some) == 1 else self._several(some[0].shard, some)
            for of_shard in by_shard.values()
            for some in ((of_shard,) if len(of_shard) <= RECORDS_MAX else _portions(of_shard))
        ]

    def _one(self, pending: PendingRecord) -> PackedEntry:
        xadd = self._xadd(pending.shard, pending.record)
        if pending.asking:
            return PackedEntry((pending,), _ASKING + xadd, 2)
        return PackedEntry((pending,), xadd, 1)

    def _several(self, shard: int, some: Sequence[PendingRecord]) -> PackedEntry:
        content = join_records([pending.record for pending in some])
        ends = self._ends.get(shard)
        if ends is None:
            ends = self._ends[shard] = _ends_of(shard)
        return PackedEntry(some, _MULTI + self._xadd(shard, content) + ends[len(some)], 4)

    def _xadd(self, shard: int, content: bytes) -> bytes:
        xadd = self._xadds.get(shard)
        if xadd is None:
            xadd = self._xadds[shard] = _xadd_to(keys.stream(shard))
        return b"%b$%d\r\n%b\r\n" % (xadd, len(content), content)


def refusal(replies: Sequence[Any]) -> RedisError | None:
    """The error in the replies to an entry's commands; None: it was appended."""
    for reply in replies:
        if isinstance(reply, RedisError):
            return reply
    if not isinstance(reply, list):
        return None
    # The replies of a transaction. If only INCRBY failed, the entry is in the stream.
    appended = reply[0]
    return appended if isinstance(appended, RedisError) else None


def _portions(pending: list[PendingRecord]) -> Iterator[list[PendingRecord]]:
    for first in range(0, len(pending), RECORDS_MAX):
        yield pending[first : first + RECORDS_MAX]


def _ends_of(shard: int) -> list[bytes]:
    """`INCRBY impact:joined:{N} count-1`, then `EXEC`, for each number of records in an entry."""
    joined = keys.joined(shard).encode()
    return [
        pack(b"INCRBY", joined, b"%d" % (count - 1)) + _EXEC for count in range(RECORDS_MAX + 1)
    ]


def _xadd_to(stream: str) -> bytes:
    """`XADD stream * e`, packed, without its last word (the content)."""
    words = (b"XADD", stream.encode(), b"*", FIELD)
    return pack(*words).replace(b"*%d" % len(words), b"*%d" % (len(words) + 1), 1)
