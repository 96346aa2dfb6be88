"""What one stream entry holds: a record, or several that were appended together.

An entry costs Redis more than its content: it is delivered, kept as pending, replicated,
acknowledged and deleted. So records that reach a shard in one write share an entry.

    one record       the record as it is (`contract/record.py`; its first byte is its version, 1)
    several records  version  1 byte   2
                     count    1 byte   how many, 2 to 32
                     then for each record
                     length   2 bytes  the record's, big-endian
                     record

A flusher that does not know version 2 makes a dead letter of the whole entry, which can be replayed
later. So new flushers are deployed before new collectors.
"""

import struct
from collections.abc import Sequence
from typing import Final

from contract.errors import DeadLetter

SEVERAL: Final = 2
RECORDS_MAX: Final = 32  # so that a reader knows how much one entry can hold

_SEVERAL: Final = bytes((SEVERAL,))
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
    """How many records an entry claims to hold."""
    return content[1] if content[:1] == _SEVERAL and len(content) > 1 else 1


def split_entry(content: bytes) -> Sequence[bytes]:
    """The records of an entry, at least one. `decode` checks each record.

    Raises:
        DeadLetter: it does not hold the number of records that it claims.
    """
    if content[:1] != _SEVERAL:
        return (content,)
    records = []
    start, end = _HEAD_BYTES, len(content)
    while start + _LENGTH_BYTES <= end:
        first = start + _LENGTH_BYTES
        start = first + (content[start] << 8 | content[start + 1])
        records.append(content[first:start])
    if start != end or not 1 < len(records) == content[1] <= RECORDS_MAX:
        raise DeadLetter(
            "undecodable", "an entry does not hold the number of records that it claims"
        )
    return records
