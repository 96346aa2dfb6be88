"""Sessions in the binary format of COPY (PostgreSQL manual, COPY, Binary Format). Pure.

Sessions of one month, site and role differ in three fields of fixed size, so a row is made by one
`struct` call that puts those between bytes made once.
"""

import struct
from collections.abc import Iterable
from datetime import date

from contract.calendar import Month

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
_SITE_AT = len(_HEAD) + 16 + 8
_INSTANT_BYTES = 8


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


def visitor_hash(row: bytes) -> bytes | None:
    """The `monthly_user_hash` in a row whose session is a visitor's."""
    hash_at = _SITE_AT + 4 + int(_LENGTH.unpack_from(row, _SITE_AT)[0]) + 4
    role_at = hash_at + 16
    return row[hash_at:role_at] if row.startswith(_NULL, role_at) else None


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
