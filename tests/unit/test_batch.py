"""flusher/rows/batch.py: entries into events, each once, and nothing lost on the way."""

from dataclasses import replace
from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from asyncpg.pgproto.pgproto import UUID
from hypothesis import given
from hypothesis import strategies as st

from contract.calendar import DAY_US, Month, from_us
from contract.entry import join_records
from contract.record import Event, SessionStarted, SessionUpgraded, encode
from flusher.rows.batch import decode_entries
from flusher.rows.copy_format import EPOCH_US, RowTemplate, began_us, copy_source
from flusher.rows.entry import Entry
from flusher.rows.upgrade_row import SignInRow, UpgradeRow
from tests.unit.events import (
    AT_US,
    CURRENT_UPGRADED,
    NOVEMBER,
    SALT_MADE,
    SESSION_ID,
    SIGN_IN,
    STARTED,
    UPGRADED,
    VISITOR,
    months,
    session_events,
    sixteen_bytes,
)

LATEST = NOVEMBER.plus(1)
FAR = Month(2300, 1)


def entries_of(records: list[bytes]) -> list[Entry]:
    return [Entry(0, f"{number}-0".encode(), record) for number, record in enumerate(records)]


def entries(*events: Event) -> list[Entry]:
    return entries_of([encode(event) for event in events])


def row(start: SessionStarted) -> bytes:
    template = RowTemplate(start.month, start.site, start.role)
    return template.pack(
        template.before_id,
        start.id,
        template.before_hash,
        start.monthly_user_hash,
        template.after_hash,
        start.at_us - EPOCH_US,
    )


def upgrade_row(event: SessionUpgraded) -> UpgradeRow:
    return UpgradeRow(
        UUID(event.id),
        UUID(event.session_id) if event.session_id else None,
        UUID(event.visitor_hash) if event.visitor_hash else None,
        event.month.first_day,
        event.site,
        UUID(event.user_hash),
        event.role,
        from_us(event.at_us),
    )


def sign_in_row(event: SessionUpgraded) -> SignInRow:
    return SignInRow(event.month.first_day, event.site, *map(UUID, SIGN_IN))


def test_nothing_is_an_empty_batch() -> None:
    batch = decode_entries([], LATEST)
    assert (batch.entries, batch.starts, batch.upgrades, batch.undecodable) == ([], {}, {}, [])
    assert batch.months == set()
    assert batch.oldest_us is None


def test_each_kind_of_event_finds_its_place() -> None:
    current = replace(CURRENT_UPGRADED, id=bytes(15) + b"\x09")
    batch = decode_entries(read := entries(STARTED, UPGRADED, current), LATEST)
    assert batch.entries == read
    assert batch.starts == {STARTED.id: row(STARTED)}
    assert batch.upgrades == {
        UPGRADED.id: upgrade_row(UPGRADED),
        current.id: upgrade_row(current),
    }
    assert batch.sign_ins == {event.id: sign_in_row(event) for event in (UPGRADED, current)}
    assert batch.undecodable == []


@pytest.mark.parametrize("event", [UPGRADED, CURRENT_UPGRADED])
def test_an_upgrade_of_nobodys_own_is_no_sign_in_to_count(event: SessionUpgraded) -> None:
    batch = decode_entries(entries(replace(event, sign_in=None)), LATEST)
    assert (len(batch.upgrades), batch.sign_ins) == (1, {})


def test_a_repeated_session_is_one_and_the_earliest_stays() -> None:
    """A front-end's repeat, a retried write and a redelivered entry are all the same row."""
    early, late = replace(STARTED, at_us=AT_US - 5), replace(STARTED, at_us=AT_US + 5)
    for order in ([early, late, STARTED], [late, STARTED, early], [STARTED, early, late]):
        batch = decode_entries(entries(*order), LATEST)
        assert batch.starts == {SESSION_ID: row(early)}
        assert batch.repeated_starts == 2
        assert len(batch.entries) == 3, "all of them end when the one row is written"


def test_a_repeated_upgrade_is_one() -> None:
    batch = decode_entries(entries(UPGRADED, UPGRADED), LATEST)
    assert batch.upgrades == {UPGRADED.id: upgrade_row(UPGRADED)}
    assert batch.repeated_upgrades == 1


def test_two_upgrades_of_one_session_are_two_events() -> None:
    """Which of them wins is decided where all of them are known."""
    other = replace(UPGRADED, id=bytes(15) + b"\x07", role="admin")
    batch = decode_entries(entries(UPGRADED, other), LATEST)
    assert set(batch.upgrades) == {UPGRADED.id, other.id}
    assert batch.repeated_upgrades == 0


def test_a_session_and_an_upgrade_may_share_an_id() -> None:
    batch = decode_entries(entries(STARTED, replace(UPGRADED, id=SESSION_ID)), LATEST)
    assert (len(batch.starts), len(batch.upgrades)) == (1, 1)


@pytest.mark.parametrize("record", [b"", b"\x01", b"{}", b"\x02" + encode(STARTED)[1:]])
def test_a_broken_entry_is_set_apart_and_the_others_go_on(record: bytes) -> None:
    read = entries_of([encode(STARTED), record, encode(UPGRADED)])
    batch = decode_entries(read, LATEST)
    assert batch.entries == [read[0], read[2]]
    assert [broken.entry for broken in batch.undecodable] == [read[1]]
    reason = batch.undecodable[0].why.reason
    assert reason in {"undecodable", "unknown_version", "newer_version"}


def test_a_month_that_is_yet_to_come_is_a_dead_letter() -> None:
    """No collector can have had its salt."""
    kept = replace(STARTED, month=LATEST, at_us=LATEST.starts_us(UTC))
    too_late = LATEST.plus(1)
    broken = replace(STARTED, month=too_late, at_us=too_late.starts_us(UTC), id=VISITOR)
    batch = decode_entries(entries(kept, broken), LATEST)
    assert list(batch.starts.values()) == [row(kept)]
    assert [each.why.reason for each in batch.undecodable] == ["month"]


@pytest.mark.parametrize("month", [Month(1, 1), Month(1999, 12)])
def test_a_month_before_all_collectors_is_a_dead_letter(month: Month) -> None:
    """Even with an instant that goes with it: the month before could not be looked into."""
    early = replace(STARTED, month=month, at_us=month.starts_us(UTC))
    batch = decode_entries(entries(early), LATEST)
    assert batch.entries == []
    assert [each.why.reason for each in batch.undecodable] == ["month"]


def test_an_instant_that_is_far_from_its_month_is_a_dead_letter() -> None:
    """Whatever the time zone, a month is within a day of UTC's."""
    near = [NOVEMBER.starts_us(UTC) - DAY_US, NOVEMBER.ends_us(UTC) + DAY_US]
    far = [NOVEMBER.starts_us(UTC) - 7 * DAY_US, NOVEMBER.ends_us(UTC) + 7 * DAY_US, 0]
    batch = decode_entries(
        entries(
            *(replace(STARTED, id=bytes([n]) * 16, at_us=at) for n, at in enumerate(near + far))
        ),
        LATEST,
    )
    assert [began_us(start) for start in batch.starts.values()] == near
    assert [each.why.reason for each in batch.undecodable] == ["instant"] * len(far)


def test_the_months_and_the_oldest_session_are_the_batchs() -> None:
    october = NOVEMBER.plus(-1)
    batch = decode_entries(
        entries(
            STARTED,
            replace(STARTED, id=VISITOR, at_us=AT_US - 7),
            replace(UPGRADED, month=october, at_us=october.ends_us(UTC) - 1),
        ),
        LATEST,
    )
    assert batch.months == {october, NOVEMBER}
    assert batch.oldest_us == AT_US - 7


@given(st.lists(session_events.map(encode) | st.binary(max_size=80), max_size=12))
def test_no_entry_is_lost_or_counted_twice(records: list[bytes]) -> None:
    """What was read is what was accepted, plus what was set apart."""
    read = entries_of(records)
    batch = decode_entries(read, FAR)
    assert sorted(
        entry.id for entry in [*batch.entries, *(each.entry for each in batch.undecodable)]
    ) == sorted(entry.id for entry in read)
    assert len(batch.entries) == (
        len(batch.starts) + len(batch.upgrades) + batch.repeated_starts + batch.repeated_upgrades
    )


@given(st.lists(st.tuples(st.sampled_from([SESSION_ID, VISITOR]), st.integers(0, 9)), max_size=8))
def test_the_earliest_copy_of_each_session_stays(copies: list[tuple[bytes, int]]) -> None:
    batch = decode_entries(
        entries(*(replace(STARTED, id=id_, at_us=AT_US + at) for id_, at in copies)), LATEST
    )
    earliest: dict[bytes, int] = {}
    for id_, at in copies:
        earliest[id_] = min(AT_US + at, earliest.get(id_, AT_US + at))
    assert {id_: began_us(start) for id_, start in batch.starts.items()} == earliest


any_instant = st.integers(-(2**63), 2**63 - 1)
any_month = st.integers(12, 65535).map(Month.from_ordinal)


@given(
    st.builds(
        SessionStarted,
        sixteen_bytes,
        any_month | months,
        any_instant,
        st.just("a.example"),
        sixteen_bytes,
        st.none(),
    )
    | st.builds(
        SessionUpgraded,
        sixteen_bytes,
        sixteen_bytes,
        st.none(),
        any_month | months,
        any_instant,
        st.just("a.example"),
        sixteen_bytes,
        st.just("user"),
    )
)
def test_what_is_let_through_can_be_written_or_refused_by_postgresql(event: Event) -> None:
    """A damaged record must become a dead letter. If it made the flusher itself fail, it would be
    read again after every restart, and nothing behind it would ever be written.
    """
    batch = decode_entries(entries(event), FAR)
    for month in batch.months:
        month.plus(-1)
        month.starts_us(ZoneInfo("Pacific/Kiritimati"))
        month.ends_us(ZoneInfo("Pacific/Pago_Pago"))
    for start in batch.starts.values():
        from_us(began_us(start))
    assert b"".join(batch.starts.values()) in copy_source(batch.starts.values())


@given(st.lists(session_events, min_size=1, max_size=8), st.integers(1, 8))
def test_records_that_share_an_entry_come_to_the_same_as_alone(
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


@given(st.lists(session_events, min_size=1, max_size=6), st.data())
def test_of_an_entry_with_a_broken_record_nothing_is_written(
    events: list[Event], data: st.DataObject
) -> None:
    """It is split first, so that each record ends once: as a row or as a dead letter."""
    records = [encode(event) for event in events]
    records.insert(data.draw(st.integers(0, len(records))), b"\x01\x01broken")
    batch = decode_entries(entries_of([encode(STARTED), join_records(records)]), FAR)
    assert [entry.record for entry in batch.divisible] == [join_records(records)]
    assert len(batch.entries) == batch.records == 1
    assert set(batch.starts) == {STARTED.id}
    assert (batch.upgrades, batch.undecodable, batch.repeated_starts) == ({}, [], 0)
    assert batch.sign_ins == {}


def test_an_entry_that_does_not_hold_what_it_says_is_a_dead_letter_whole() -> None:
    several = join_records([encode(STARTED), encode(UPGRADED)])
    batch = decode_entries(entries_of([several[:-1]]), LATEST)
    assert (batch.entries, batch.divisible) == ([], [])
    assert [broken.why.reason for broken in batch.undecodable] == ["undecodable"]


def test_a_notice_never_shares_an_entry() -> None:
    batch = decode_entries(entries(SALT_MADE), LATEST)
    assert (batch.notices, batch.accepted, batch.months) == (batch.entries, [], set())
    mixed = decode_entries(entries_of([join_records([encode(SALT_MADE), encode(STARTED)])]), LATEST)
    assert (len(mixed.divisible), mixed.entries) == (1, [])
