"""Sessions in the binary format of COPY (PostgreSQL manual, COPY, Binary Format). Pure."""

import struct
from collections.abc import Iterable
from datetime import date
from io import BytesIO

from contract.calendar import Month
from contract.record import SessionStarted

COLUMNS = ("id", "month", "site", "monthly_user_hash", "highest_role", "created_at")

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_NULL = struct.pack(">i", -1)
_EPOCH_DAY = date(2000, 1, 1)
_EPOCH_US = 946_684_800_000_000

# The number of fields, then each field's length and bytes: id and month up to the site's length …
_ID_AND_MONTH = struct.Struct(">hi16siii")
# … the hash after it, and the instant after the role.
_HASH = struct.Struct(">i16s")
_INSTANT = struct.Struct(">iq")


def encode_sessions(starts: Iterable[SessionStarted]) -> BytesIO:
    """A COPY stream of the columns `COLUMNS`, to be read from its beginning.

    A file, not bytes: asyncpg takes bytes for a file's name.
    """
    parts = [_SIGNATURE]
    days: dict[Month, int] = {}
    for start in starts:
        day = days.get(start.month)
        if day is None:
            day = days[start.month] = (start.month.first_day - _EPOCH_DAY).days
        site = start.site.encode("ascii")
        parts.append(_ID_AND_MONTH.pack(6, 16, start.id, 4, day, len(site)))
        parts.append(site)
        parts.append(_HASH.pack(16, start.monthly_user_hash))
        if start.role is None:
            parts.append(_NULL)
        else:
            role = start.role.encode()
            parts.append(len(role).to_bytes(4, "big"))
            parts.append(role)
        parts.append(_INSTANT.pack(8, start.at_us - _EPOCH_US))
    parts.append(_TRAILER)
    return BytesIO(b"".join(parts))
