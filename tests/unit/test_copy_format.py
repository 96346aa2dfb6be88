"""flusher/rows/copy_format.py: its bytes, read as PostgreSQL's manual describes them."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from contract.calendar import Month
from contract.record import SessionStarted
from flusher.rows.copy_format import (
    COLUMNS,
    began_us,
    copy_source,
    visitor_of,
)
from tests.unit.events import NOVEMBER, STARTED, pack_row, starts

SIGNATURE = b"PGCOPY\n\xff\r\n\0"


@dataclass(frozen=True)
class Row:
    id: UUID
    month: date
    site: str
    monthly_user_hash: UUID
    highest_role: str | None
    created_at: datetime


def read_copy(stream: BytesIO) -> list[Row]:
    """The rows of a binary COPY: uuid, date, text, uuid, text, timestamptz."""
    assert stream.read(11) == SIGNATURE
    flags, extension = struct.unpack(">ii", stream.read(8))
    assert (flags, extension) == (0, 0)
    rows = []
    while (fields := struct.unpack(">h", stream.read(2))[0]) != -1:
        assert fields == 6
        values: list[bytes | None] = []
        for _ in range(fields):
            (length,) = struct.unpack(">i", stream.read(4))
            value = stream.read(length) if length >= 0 else None
            assert value is None or len(value) == length
            values.append(value)
        id_, day, site, hash_, role, instant = values
        rows.append(
            Row(
                UUID(bytes=id_),
                date(2000, 1, 1) + timedelta(days=struct.unpack(">i", day or b"")[0]),
                (site or b"").decode(),
                UUID(bytes=hash_),
                None if role is None else role.decode(),
                datetime(2000, 1, 1, tzinfo=UTC)
                + timedelta(microseconds=struct.unpack(">q", instant or b"")[0]),
            )
        )
    assert stream.read() == b"", "nothing follows the trailer"
    return rows


def encode_sessions(sessions: Iterable[SessionStarted]) -> BytesIO:
    return BytesIO(copy_source(map(pack_row, sessions)))


def row(start: SessionStarted) -> Row:
    return Row(
        UUID(bytes=start.id),
        date(start.month.year, start.month.number, 1),
        start.site,
        UUID(bytes=start.monthly_user_hash),
        start.role,
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=start.at_us),
    )


# Also before PostgreSQL's epoch, the year 2000.
any_starts = st.builds(
    lambda start, month, at_us: replace(start, month=month, at_us=at_us),
    starts,
    st.builds(Month, st.integers(1970, 2100), st.integers(1, 12)),
    st.integers(0, 2**52) | st.sampled_from([946_684_799_999_999, 946_684_800_000_000]),
)


@given(st.lists(starts | any_starts, max_size=6))
@example([replace(STARTED, month=month) for month in (Month(1999, 12), Month(2000, 1), NOVEMBER)])
@example([replace(STARTED, role=role) for role in (None, "user", "räte-✓")])
def test_every_session_is_a_row_with_its_values_in_their_columns(
    sessions: list[SessionStarted],
) -> None:
    assert read_copy(encode_sessions(sessions)) == [row(start) for start in sessions]


def test_the_columns_are_named_in_the_order_of_the_values() -> None:
    assert tuple(Row.__dataclass_fields__) == COLUMNS


def test_the_source_is_no_bytes() -> None:
    """Asyncpg would take bytes for the name of a file."""
    assert isinstance(copy_source([pack_row(STARTED)]), bytearray)


@given(starts)
def test_a_rows_time_and_visitor_are_read_from_it(start: SessionStarted) -> None:
    assert began_us(pack_row(start)) == start.at_us
    visitor = start.month.first_day, start.site, start.monthly_user_hash
    assert visitor_of(pack_row(start)) == (visitor if start.role is None else None)
