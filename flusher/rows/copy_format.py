"""Sessions in the binary format of COPY (PostgreSQL manual, COPY, Binary Format). Pure.

Sessions of one month, site and role differ in three fields of fixed size, so a row is made by one
`struct` call that puts those between bytes made once.
"""

import struct
from collections.abc import Iterable, Sequence
from datetime import date, timedelta

from contract.calendar import MINUTE_US, Month

COLUMNS = ("id", "month", "site", "monthly_user_hash", "highest_role", "created_at")

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_NULL = struct.pack(">i", -1)
_EPOCH_DAY = date(2000, 1, 1)
# PostgreSQL's epoch in ours. An instant in a row is relative to it.
EPOCH_US = 946_684_800_000_000

# The number of fields, then each field's length and bytes.
_HEAD = struct.pack(">hi", 6, 16)
_LENGTH = struct.Struct(">i")
_INSTANT = struct.Struct(">q")
_MONTH_AT = len(_HEAD) + 16
_SITE_AT = _MONTH_AT + 8
_SITE_SHORT_AT = _SITE_AT + 3
_INSTANT_BYTES = 8
# What a row has beside its site, up to the end of its hash, and in all when its session is a
# visitor's. A site is shorter than 256 bytes, so that the last byte of its length says all of it.
_TO_HASH_END = _SITE_AT + 4 + 4 + 16
_VISITORS = _TO_HASH_END + 4 + 4 + _INSTANT_BYTES


class RowTemplate:
    """The rows of one month, site and role."""

    __slots__ = ("after_hash", "before_hash", "before_id", "pack")

    def __init__(self, month: Month, site: str, role: str | None) -> None:
        """For rows made by `pack(before_id, id, before_hash, hash, after_hash, instant)`.

        `instant` in microseconds since `EPOCH_US`; id and hash of 16 bytes each.
        """
        day = (month.first_day - _EPOCH_DAY).days
        self.before_id = _HEAD
        self.before_hash = struct.pack(">ii", 4, day) + _field(site.encode()) + _LENGTH.pack(16)
        self.after_hash = (_NULL if role is None else _field(role.encode())) + _LENGTH.pack(8)
        before, after = len(self.before_hash), len(self.after_hash)
        self.pack = struct.Struct(f">{len(_HEAD)}s16s{before}s16s{after}sq").pack


def began_us(row: bytes) -> int:
    """When a row's session began, in microseconds since the Unix epoch."""
    return int(_INSTANT.unpack_from(row, len(row) - _INSTANT_BYTES)[0]) + EPOCH_US


def visitor_of(row: bytes) -> tuple[date, str, bytes] | None:
    """Month, site and hash of a row whose session is a visitor's."""
    site_bytes = row[_SITE_SHORT_AT]
    if len(row) != _VISITORS + site_bytes:
        return None
    end = _TO_HASH_END + site_bytes
    return *where_of(row[_MONTH_AT : end - 20]), row[end - 16 : end]


def people_of(rows: Sequence[bytes], *, signed_in: bool) -> list[bytes]:
    """Whose sessions rows are (`person_key`), of visitors' rows or of the others."""
    if signed_in:
        return [
            row[_MONTH_AT : _TO_HASH_END + row[_SITE_SHORT_AT]]
            for row in rows
            if len(row) != _VISITORS + row[_SITE_SHORT_AT]
        ]
    return [
        row[_MONTH_AT : _TO_HASH_END + row[_SITE_SHORT_AT]]
        for row in rows
        if len(row) == _VISITORS + row[_SITE_SHORT_AT]
    ]


def first_and_last_minute(rows: Sequence[bytes]) -> tuple[int, int]:
    """The minutes (`minute_of`) in which the first and the last of rows began."""
    instants = [row[-_INSTANT_BYTES:] for row in rows]
    first, last = _INSTANT.unpack(min(instants)), _INSTANT.unpack(max(instants))
    return first[0] // MINUTE_US, last[0] // MINUTE_US


def minutes_of(rows: Sequence[bytes], *, signed_in: bool) -> list[int]:
    """The minutes (`minute_of`) in which those began whose people `people_of` gives."""
    instants = [
        row[-_INSTANT_BYTES:]
        for row in rows
        if (len(row) != _VISITORS + row[_SITE_SHORT_AT]) == signed_in
    ]
    numbers = struct.unpack(f">{len(instants)}q", b"".join(instants))
    return [number // MINUTE_US for number in numbers]


def person_key(where: bytes, hash_: bytes) -> bytes:
    """A person, as in a row: what `where_key` has, then 16 bytes of hash. Sorted, the people of a
    place stand together.
    """
    return where + _LENGTH.pack(16) + hash_


def split_person(key: bytes) -> tuple[bytes, bytes]:
    """A `person_key`'s where and hash."""
    return key[:-20], key[-16:]


def where_key(month: date, site: str) -> bytes:
    """Month and site, as in a row."""
    return struct.pack(">ii", 4, (month - _EPOCH_DAY).days) + _field(site.encode())


def where_of(key: bytes) -> tuple[date, str]:
    """Month and site of a `where_key`."""
    day = int(_LENGTH.unpack_from(key, 4)[0])
    return _EPOCH_DAY + timedelta(days=day), key[12:].decode()


def minute_of(at_us: int) -> int:
    """The minute of an instant, from the beginning of 2000 on; `at_us` from the Unix epoch on."""
    return (at_us - EPOCH_US) // MINUTE_US


def copy_source(rows: Iterable[bytes]) -> bytearray:
    """What COPY reads: rows of the columns `COLUMNS`.

    A bytearray, since asyncpg takes bytes for a file's name.
    """
    source = bytearray(_SIGNATURE)
    source += b"".join(rows)
    source += _TRAILER
    return source


def _field(text: bytes) -> bytes:
    return _LENGTH.pack(len(text)) + text
