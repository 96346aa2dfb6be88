"""Sessions in the binary format of COPY (PostgreSQL manual, COPY, Binary Format). Pure.

Sessions of one month, site and role differ in three fields of fixed size, so a row is made by one
`struct` call that puts those between bytes made once.
"""

import struct
from collections.abc import Iterable
from datetime import date, datetime, timedelta

from contract.calendar import MINUTE_US, Month, from_us

# How many sessions: a visitor's, and signed in.
Tally = dict[bytes, list[int]]
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
    site_bytes = row[_SITE_AT + 3]
    if len(row) != _VISITORS + site_bytes:
        return None
    end = _TO_HASH_END + site_bytes
    return *where_of(row[_MONTH_AT : end - 20]), row[end - 16 : end]


def tally(rows: Iterable[bytes], people: Tally, minutes: Tally) -> None:
    """Adds rows to how often each person came, and how many came in each minute.

    Args:
        rows: of sessions.
        people: by hash and `where_key`: how many as a visitor, how many signed in.
        minutes: by `minute_key` and `where_key`: the same.
    """
    begins, ends, minute = b"", b"", b""
    for row in rows:
        site_bytes = row[_SITE_AT + 3]
        end = _TO_HASH_END + site_bytes
        where = row[_MONTH_AT : end - 20]
        instant = row[-_INSTANT_BYTES:]
        if not begins <= instant < ends:  # nearly all of a batch are of one minute
            minute = minute_key(began_us(row))
            (number,) = _INSTANT.unpack(minute)
            begins, ends = (_INSTANT.pack((number + more) * MINUTE_US) for more in (0, 1))
        signed_in = len(row) != _VISITORS + site_bytes
        person = row[end - 16 : end] + where
        if person in people:
            people[person][signed_in] += 1
        else:
            people[person] = [0, 1] if signed_in else [1, 0]
        at = minute + where
        if at in minutes:
            minutes[at][signed_in] += 1
        else:
            minutes[at] = [0, 1] if signed_in else [1, 0]


def where_key(month: date, site: str) -> bytes:
    """Month and site as they end `tally`'s keys."""
    return struct.pack(">ii", 4, (month - _EPOCH_DAY).days) + _field(site.encode())


def where_of(key: bytes) -> tuple[date, str]:
    """Month and site of a `where_key`."""
    day = int(_LENGTH.unpack_from(key, 4)[0])
    return _EPOCH_DAY + timedelta(days=day), key[12:].decode()


def minute_key(at_us: int) -> bytes:
    """The minute of an instant as it begins `tally`'s keys; `at_us` from the Unix epoch on."""
    return _INSTANT.pack((at_us - EPOCH_US) // MINUTE_US)


def minute_of(key: bytes) -> datetime:
    """The minute of a `minute_key`."""
    return from_us(int(_INSTANT.unpack_from(key)[0]) * MINUTE_US + EPOCH_US)


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
