"""Sessions in the binary format of COPY (PostgreSQL manual, COPY, Binary Format). Pure.

The rows of one month, site and role differ only in three fields of fixed size. So one `struct` call
makes a row: it puts these fields between bytes that were made once.
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
# PostgreSQL's epoch, to which the times in rows are relative, by the Unix epoch.
EPOCH_US = 946_684_800_000_000

# The number of fields, then each field's length and bytes.
_HEAD = struct.pack(">hi", 6, 16)
_LENGTH = struct.Struct(">i")
_INSTANT = struct.Struct(">q")
_MONTH_AT = len(_HEAD) + 16
_SITE_AT = _MONTH_AT + 8
_SITE_SHORT_AT = _SITE_AT + 3
_INSTANT_BYTES = 8
# The length of a row without its site: up to the end of its hash, and of a whole visitor's row. A
# site is shorter than 256 bytes, so the last byte of its length is enough.
_TO_HASH_END = _SITE_AT + 4 + 4 + 16
_VISITORS = _TO_HASH_END + 4 + 4 + _INSTANT_BYTES


class RowTemplate:
    """A template for the rows of one month, site and role."""

    __slots__ = ("after_hash", "before_hash", "before_id", "pack")

    def __init__(self, month: Month, site: str, role: str | None) -> None:
        """A row is `pack(before_id, id, before_hash, hash, after_hash, instant)`.

        `id` and `hash` have 16 bytes; `instant` is in microseconds since `EPOCH_US`.
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
    """The month, site and hash of a visitor's row; None: it is a user's."""
    site_bytes = row[_SITE_SHORT_AT]
    if len(row) != _VISITORS + site_bytes:
        return None
    end = _TO_HASH_END + site_bytes
    return *where_of(row[_MONTH_AT : end - 20]), row[end - 16 : end]


def people_of(rows: Sequence[bytes], *, signed_in: bool) -> list[bytes]:
    """The `person_key` of each visitor's row, or of each signed-in user's row."""
    return [
        row[_MONTH_AT : _TO_HASH_END + row[_SITE_SHORT_AT]]
        for row in rows
        if (len(row) != _VISITORS + row[_SITE_SHORT_AT]) == signed_in
    ]


def first_and_last_minute(rows: Sequence[bytes]) -> tuple[int, int]:
    """The minutes (`minute_of`) of the earliest and the latest of these sessions."""
    instants = [row[-_INSTANT_BYTES:] for row in rows]
    first, last = _INSTANT.unpack(min(instants)), _INSTANT.unpack(max(instants))
    return first[0] // MINUTE_US, last[0] // MINUTE_US


def minutes_of(rows: Sequence[bytes], *, signed_in: bool) -> list[int]:
    """The minutes (`minute_of`) of the sessions that `people_of` selects, in the same order."""
    instants = [
        row[-_INSTANT_BYTES:]
        for row in rows
        if (len(row) != _VISITORS + row[_SITE_SHORT_AT]) == signed_in
    ]
    numbers = struct.unpack(f">{len(instants)}q", b"".join(instants))
    return [number // MINUTE_US for number in numbers]


def person_key(where: bytes, hash_: bytes) -> bytes:
    """A person, as in a row: `where_key`, 4 bytes, and 16 bytes of hash. The keys of one month and
    site are neighbours when sorted.
    """
    return where + _LENGTH.pack(16) + hash_


def where_key(month: date, site: str) -> bytes:
    """A month and site, as in a row."""
    return struct.pack(">ii", 4, (month - _EPOCH_DAY).days) + _field(site.encode())


def where_of(key: bytes) -> tuple[date, str]:
    """The month and site of a `where_key`."""
    day = int(_LENGTH.unpack_from(key, 4)[0])
    return _EPOCH_DAY + timedelta(days=day), key[12:].decode()


def minute_of(at_us: int) -> int:
    """The minute, counted from the beginning of 2000; `at_us` is by the Unix epoch."""
    return (at_us - EPOCH_US) // MINUTE_US


def copy_source(rows: Iterable[bytes]) -> bytearray:
    """The input of COPY: rows of the columns `COLUMNS`.

    It is a bytearray, because asyncpg takes `bytes` for a file's name.
    """
    source = bytearray(_SIGNATURE)
    source += b"".join(rows)
    source += _TRAILER
    return source


def _field(text: bytes) -> bytes:
    return _LENGTH.pack(len(text)) + text
