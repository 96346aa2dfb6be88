"""flusher/rows/copy_format.py: a row's bytes, as PostgreSQL's manual describes them."""

import struct
from dataclasses import replace

from hypothesis import example, given

from contract.calendar import Month
from contract.record import SessionStarted
from flusher.rows.copy_format import EPOCH_US, began_us, visitor_of
from tests.unit.events import STARTED, pack_row, starts

EPOCH_DAY = Month(2000, 1).first_day


def fields(row: bytes) -> list[bytes | None]:
    """A row's fields as `COPY` reads them: their number, then each with its length; -1: NULL."""
    (count,), rest = struct.unpack(">h", row[:2]), row[2:]
    found: list[bytes | None] = []
    for _ in range(count):
        (length,), rest = struct.unpack(">i", rest[:4]), rest[4:]
        found.append(None if length < 0 else rest[:length])
        rest = rest[max(length, 0) :]
    assert rest == b""
    return found


@given(starts)
@example(replace(STARTED, month=Month(1999, 12), at_us=EPOCH_US - 1))
@example(replace(STARTED, role="räte-✓"))
def test_a_sessions_row_has_its_values_in_the_order_of_the_columns(start: SessionStarted) -> None:
    row = pack_row(start)
    assert fields(row) == [
        start.id,
        struct.pack(">i", (start.month.first_day - EPOCH_DAY).days),
        start.site.encode(),
        start.monthly_user_hash,
        None if start.role is None else start.role.encode(),
        struct.pack(">q", start.at_us - EPOCH_US),
    ]
    assert began_us(row) == start.at_us
    visitor = start.month.first_day, start.site, start.monthly_user_hash
    assert visitor_of(row) == (visitor if start.role is None else None)
