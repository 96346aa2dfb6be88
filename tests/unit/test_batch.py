"""flusher/rows/batch.py: each record of the entries becomes a row once, or a dead letter."""

from dataclasses import replace
from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.calendar import DAY_US, Month, from_us
from contract.entry import join_records
from contract.record import Event, encode
from flusher.rows.batch import Entry, decode_entries
from flusher.rows.copy_format import began_us, copy_source
from tests.unit.events import (
    AT_US,
    NOVEMBER,
    SALT_MADE,
    STARTED,
    UPGRADED,
    VISITOR,
    months,
    pack_row,
    session_events,
)

LATEST = NOVEMBER.plus(1)
FAR = Month(2300, 1)


def entries_of(records: list[bytes]) -> list[Entry]:
    return [Entry(0, f"{number}-0".encode(), record) for number, record in enumerate(records)]


def entries(*events: Event) -> list[Entry]:
    return entries_of([encode(event) for event in events])


@pytest.mark.parametrize(
    ("month", "days", "reason"),
    [
        pytest.param(LATEST, 0, None, id="latest month"),
        # No collector can have had its salt.
        pytest.param(LATEST.plus(1), 0, "month", id="future month"),
        # The flusher also looks into the month before.
        *((month, 0, "undecodable") for month in (Month(1, 1), Month(1999, 12))),
        # Whatever the time zone, a month begins and ends within a day of UTC's.
        *((NOVEMBER, days, None) for days in (-1, 31)),
        *((NOVEMBER, days, "instant") for days in (-7, 37, -20_000)),
    ],
)
def test_a_month_or_a_time_that_can_not_be_is_a_dead_letter(
    month: Month, days: int, reason: str | None
) -> None:
    start = replace(STARTED, month=month, at_us=month.starts_us(UTC) + days * DAY_US)
    batch = decode_entries(entries(start), LATEST)
    assert list(batch.starts.values()) == ([pack_row(start)] if reason is None else [])
    assert [each.why.reason for each in batch.undecodable] == ([reason] if reason else [])


def test_a_batch_knows_its_months_and_its_oldest_session() -> None:
    october = NOVEMBER.plus(-1)
    earlier = replace(STARTED, id=VISITOR, at_us=AT_US - 7)
    upgraded = replace(UPGRADED, month=october, at_us=october.ends_us(UTC) - 1)
    batch = decode_entries(entries(STARTED, earlier, upgraded), LATEST)
    assert batch.months == {october, NOVEMBER}
    assert batch.oldest_us == AT_US - 7


@given(st.lists(session_events.map(encode) | st.binary(max_size=80), max_size=12))
def test_no_entry_is_lost_or_counted_twice(records: list[bytes]) -> None:
    """Every entry is either accepted or undecodable."""
    read = entries_of(records)
    batch = decode_entries(read, FAR)
    assert sorted(entry.id for entry in (*batch.entries, *batch.broken)) == sorted(
        entry.id for entry in read
    )
    assert len(batch.entries) == (
        len(batch.starts) + len(batch.upgrades) + batch.repeated_starts + batch.repeated_upgrades
    )


@given(
    st.builds(
        lambda event, month, at_us: replace(event, month=month, at_us=at_us),
        st.sampled_from([STARTED, UPGRADED]),
        st.integers(12, 65535).map(Month.from_ordinal) | months,
        st.integers(-(2**63), 2**63 - 1),
    )
)
def test_what_is_accepted_can_be_written_or_refused_by_postgresql(event: Event) -> None:
    """A damaged record must become a dead letter. If it made the flusher itself fail, it would be
    read again after every restart, and nothing behind it would ever be written.
    """
    batch = decode_entries(entries(event), FAR)
    for month in batch.months:
        month.plus(-1).starts_us(ZoneInfo("Pacific/Kiritimati"))
        month.ends_us(ZoneInfo("Pacific/Pago_Pago"))
    for start in batch.starts.values():
        from_us(began_us(start))
    assert b"".join(batch.starts.values()) in copy_source(batch.starts.values())


@given(st.lists(session_events, min_size=1, max_size=8), st.integers(1, 8))
def test_records_that_share_an_entry_have_the_same_result_as_alone(
    events: list[Event], records: int
) -> None:
    alone = decode_entries(entries(*events), FAR)
    pieces = [events[n : n + records] for n in range(0, len(events), records)]
    together = decode_entries(
        entries_of([join_records([encode(event) for event in piece]) for piece in pieces]), FAR
    )
    assert (together.starts, together.upgrades) == (alone.starts, alone.upgrades)
    assert together.sign_ins == alone.sign_ins
    assert (together.records, len(together.entries)) == (len(events), len(pieces))
    assert together.repeated_starts == alone.repeated_starts
    assert together.repeated_upgrades == alone.repeated_upgrades
    assert (together.months, together.oldest_us) == (alone.months, alone.oldest_us)


def test_a_notice_never_shares_an_entry_and_of_a_refused_entry_nothing_is_left() -> None:
    batch = decode_entries(entries(SALT_MADE), LATEST)
    assert (batch.notices, batch.accepted, batch.months) == (batch.entries, [], set())
    records = [encode(event) for event in (UPGRADED, STARTED, UPGRADED, STARTED, SALT_MADE)]
    mixed = decode_entries(entries_of([join_records(records)]), LATEST)
    assert (len(mixed.divisible), mixed.entries, mixed.starts, mixed.upgrades) == (1, [], {}, {})
    assert (mixed.sign_ins, mixed.repeated_starts, mixed.repeated_upgrades) == ({}, 0, 0)
