"""flusher/rows/copy_format.py: its bytes, read by a reader that knows only PostgreSQL's manual."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.calendar import Month
from contract.record import SessionStarted
from flusher.rows.copy_format import (
    COLUMNS,
    EPOCH_US,
    RowTemplate,
    began_us,
    copy_source,
    visitor_of,
)
from tests.unit.events import NOVEMBER, SESSION_ID, STARTED, USER, VISITOR, starts

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
        assert id_ is not None
        assert day is not None
        assert site is not None
        assert hash_ is not None
        assert instant is not None
        rows.append(
            Row(
                UUID(bytes=id_),
                date(2000, 1, 1) + timedelta(days=struct.unpack(">i", day)[0]),
                site.decode(),
                UUID(bytes=hash_),
                None if role is None else role.decode(),
                datetime(2000, 1, 1, tzinfo=UTC)
                + timedelta(microseconds=struct.unpack(">q", instant)[0]),
            )
        )
    assert stream.read() == b"", "nothing follows the trailer"
    return rows


def encode(start: SessionStarted) -> bytes:
    template = RowTemplate(start.month, start.site, start.role)
    return template.pack(
        template.before_id,
        start.id,
        template.before_hash,
        start.monthly_user_hash,
        template.after_hash,
        start.at_us - EPOCH_US,
    )


def encode_sessions(sessions: Iterable[SessionStarted]) -> BytesIO:
    return BytesIO(copy_source(map(encode, sessions)))


def row(start: SessionStarted) -> Row:
    return Row(
        UUID(bytes=start.id),
        date(start.month.year, start.month.number, 1),
        start.site,
        UUID(bytes=start.monthly_user_hash),
        start.role,
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=start.at_us),
    )


@given(st.lists(starts, max_size=6))
def test_every_session_is_a_row_with_its_values_in_its_place(
    sessions: list[SessionStarted],
) -> None:
    assert read_copy(encode_sessions(sessions)) == [row(start) for start in sessions]


def test_the_columns_are_named_in_the_order_of_the_values() -> None:
    assert tuple(Row.__dataclass_fields__) == COLUMNS


def test_no_session_is_a_stream_without_rows() -> None:
    assert read_copy(encode_sessions([])) == []


@pytest.mark.parametrize(
    ("role", "expected"), [(None, None), ("user", "user"), ("räte-✓", "räte-✓")]
)
def test_a_visitors_role_is_null_and_a_users_is_utf8(
    role: str | None, expected: str | None
) -> None:
    (only,) = read_copy(encode_sessions([replace(STARTED, role=role)]))
    assert only.highest_role == expected


@pytest.mark.parametrize("month", [Month(1999, 12), Month(2000, 1), Month(2000, 2), NOVEMBER])
def test_months_before_and_after_postgresqls_epoch_are_their_first_day(month: Month) -> None:
    (only,) = read_copy(encode_sessions([replace(STARTED, month=month)]))
    assert only.month == month.first_day


@pytest.mark.parametrize("at_us", [0, 946_684_799_999_999, 946_684_800_000_000, 1])
def test_instants_before_and_after_postgresqls_epoch_are_exact(at_us: int) -> None:
    (only,) = read_copy(encode_sessions([replace(STARTED, at_us=at_us)]))
    assert only.created_at == row(replace(STARTED, at_us=at_us)).created_at


def test_the_source_is_no_bytes() -> None:
    """Those would be taken for the name of a file by asyncpg."""
    assert isinstance(copy_source([encode(STARTED)]), bytearray)


@given(starts)
def test_what_is_asked_of_a_row_is_what_went_into_it(start: SessionStarted) -> None:
    assert began_us(encode(start)) == start.at_us
    visitor = start.month.first_day, start.site, start.monthly_user_hash
    assert visitor_of(encode(start)) == (visitor if start.role is None else None)


def test_months_of_one_batch_are_kept_apart() -> None:
    mixed = [
        replace(STARTED, month=NOVEMBER),
        replace(STARTED, month=NOVEMBER.plus(-1), id=VISITOR),
        replace(STARTED, month=NOVEMBER, id=USER),
    ]
    assert [each.month.month for each in read_copy(encode_sessions(mixed))] == [11, 10, 11]
    assert SESSION_ID != VISITOR
