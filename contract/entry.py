"""What one stream entry holds: a record, or several that were appended together.

An entry costs Redis more than the records in it: it is delivered, held as pending, propagated,
acknowledged and deleted as one. Records that reach a shard in one write therefore share one.

    one record       the record as it is (`contract/record.py`; its first byte is its version, 1)
    several records  version  1 byte   2
                     count    1 byte   how many, 2 to 32
                     then for each record
                     length   2 bytes  the record's, big-endian
                     record

A flusher that knows no version 2 sets such an entry aside as a dead letter, whole, and a later one
can replay it: so flushers are deployed before the collectors that write it.
"""

import struct
from collections.abc import Sequence
from typing import Final

from contract.errors import DeadLetter

SEVERAL: Final = 2
# Bounds what a reader that asks for so many entries can be given.
RECORDS_MAX: Final = 32

_HEAD_BYTES: Final = 2
_LENGTH_BYTES: Final = 2
_pack_length: Final = struct.Struct(">H").pack


def join_records(records: Sequence[bytes]) -> bytes:
    """The content of an entry for 1 to `RECORDS_MAX` records, each from `contract.record.encode`.

    Raises:
        ValueError: none, or too many.
    """
    if len(records) == 1:
        return records[0]
    if not 1 < len(records) <= RECORDS_MAX:
        raise ValueError(f"an entry holds 1 to {RECORDS_MAX} records, not {len(records)}")
    parts = [bytes((SEVERAL, len(records)))]
    for record in records:
        parts.append(_pack_length(len(record)))
        parts.append(record)
    return b"".join(parts)


def count_records(content: bytes) -> int:
    """How many records an entry says that it holds."""
    return content[1] if content[:1] == b"\2" and len(content) > 1 else 1


def split_entry(content: bytes) -> Sequence[bytes]:
    """The records of an entry, at least one. Whether each can be read, `decode` tells.

    Raises:
        DeadLetter: it does not hold the records that it says.
    """
    if content[:1] != b"\2":
        return (content,)
    records = []
    start, end = _HEAD_BYTES, len(content)
    while start + _LENGTH_BYTES <= end:
        first = start + _LENGTH_BYTES
        start = first + (content[start] << 8 | content[start + 1])
        records.append(content[first:start])
    if start != end or not 1 < len(records) == content[1] <= RECORDS_MAX:
        raise DeadLetter("undecodable", "an entry that does not hold the records that it says")
    return records
