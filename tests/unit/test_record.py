"""contract/record.py: an event's bytes, and what becomes of bytes that are none."""

import re
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contract.calendar import Month
from contract.errors import DeadLetter, NewerVersion
from contract.record import (
    FIELD,
    NEXT_VERSION,
    ROLE_MAX_BYTES,
    SITE_MAX_BYTES,
    VERSION,
    Event,
    SaltMade,
    SessionStarted,
    SessionUpgraded,
    decode,
    encode,
)
from tests.unit.events import (
    AT_US,
    CURRENT_UPGRADED,
    NOVEMBER,
    SALT_MADE,
    SESSION_ID,
    STARTED,
    UPGRADE_ID,
    UPGRADED,
    USER,
    VISITOR,
    events,
)

KINDS = [STARTED, UPGRADED, CURRENT_UPGRADED, SALT_MADE]


def layout(event: Event) -> bytes:
    """The record as its description has it, written independently."""
    fixed = struct.pack(">H", event.month.year * 12 + event.month.number - 1) + struct.pack(
        ">q", event.at_us
    )
    if isinstance(event, SaltMade):
        outcome = event.outcome.encode()
        return b"\x01\x04" + event.id + fixed + bytes([len(outcome)]) + outcome
    role = (event.role or "").encode()
    site = event.site.encode()
    end = bytes([len(role)]) + role + bytes([len(site)]) + site
    if isinstance(event, SessionStarted):
        return b"\x01\x01" + event.id + fixed + event.monthly_user_hash + end
    end = b"".join(event.sign_in or [bytes(48)]) + end
    if event.session_id is not None:
        return b"\x01\x02" + event.id + fixed + event.user_hash + event.session_id + end
    assert event.visitor_hash is not None
    return b"\x01\x03" + event.id + fixed + event.user_hash + event.visitor_hash + end


@given(events)
def test_an_event_reads_back_as_it_was(event: Event) -> None:
    assert decode(encode(event)) == event


@given(events)
def test_a_record_is_what_its_description_says_and_nothing_more(event: Event) -> None:
    """Collectors and flushers of different releases must agree; and nothing else may get out."""
    assert encode(event) == layout(event)


def test_a_stream_entry_has_one_field_of_one_byte() -> None:
    assert FIELD == b"e"
    assert VERSION == 1


@pytest.mark.parametrize("event", KINDS)
def test_a_typical_record_takes_at_most_130_bytes(event: Event) -> None:
    assert len(encode(event)) <= 130


def test_a_typical_visitors_session_takes_62_bytes() -> None:
    assert len(encode(STARTED)) == 1 + 1 + 16 + 2 + 8 + 16 + 1 + 1 + len(STARTED.site)


@pytest.mark.parametrize("event", KINDS)
def test_a_truncated_record_is_a_dead_letter(event: Event) -> None:
    record = encode(event)
    for length in range(len(record)):
        with pytest.raises(DeadLetter) as caught:
            decode(record[:length])
        assert caught.value.reason == "undecodable"


@pytest.mark.parametrize("event", KINDS)
def test_a_record_with_something_after_its_end_is_a_dead_letter(event: Event) -> None:
    for tail in (b"\0", b"x", encode(event)):
        with pytest.raises(DeadLetter):
            decode(encode(event) + tail)


@given(st.integers(0, 255).filter(lambda version: version not in (VERSION, NEXT_VERSION)), events)
def test_a_record_of_another_version_is_a_dead_letter_that_says_so(
    version: int, event: Event
) -> None:
    """A later release's records must not be read by this one's rules."""
    with pytest.raises(DeadLetter) as caught:
        decode(bytes([version]) + encode(event)[1:])
    assert caught.value.reason == "unknown_version"


@given(st.integers(0, 255).filter(lambda kind: kind not in (1, 2, 3, 4)), events)
def test_a_record_of_another_kind_is_a_dead_letter_that_says_so(kind: int, event: Event) -> None:
    record = encode(event)
    with pytest.raises(DeadLetter) as caught:
        decode(record[:1] + bytes([kind]) + record[2:])
    assert caught.value.reason == "unknown_kind"


@settings(max_examples=150)
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"\x01" + tail))
@example(b"")
@example(b"\x01")
@example(b"\x01\x01" + bytes(44))
def test_random_bytes_are_an_event_or_a_dead_letter_and_nothing_else(record: bytes) -> None:
    assert_event_or_dead_letter(record)


@settings(max_examples=150)
@given(events, st.data())
def test_a_mutated_record_is_an_event_or_a_dead_letter_and_nothing_else(
    event: Event, data: st.DataObject
) -> None:
    record = bytearray(encode(event))
    for _ in range(data.draw(st.integers(1, 3))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    assert_event_or_dead_letter(bytes(record))


def assert_event_or_dead_letter(record: bytes) -> None:
    event, reason = None, None
    try:
        event = decode(record)
    except DeadLetter as why:
        reason = why.reason
    if event is None:
        assert reason in {"undecodable", "unknown_version", "newer_version", "unknown_kind"}
        return
    assert layout(event) == record, "two records would mean one event"
    if not isinstance(event, SaltMade):
        assert event.site
        assert "\0" not in event.site + (event.role or "")


@given(st.binary(min_size=1, max_size=120))
def test_a_dead_letters_reason_quotes_nothing_of_the_record(record: bytes) -> None:
    """Its detail is stored and shown: it may hold numbers and names of ours only."""
    with pytest.raises(DeadLetter) as caught:
        decode(b"\x01\x01" + record[:40])
    assert re.fullmatch(r"not a record: [A-Za-z]+", str(caught.value))
    with pytest.raises(DeadLetter) as caught:
        decode(b"\x02" + record)
    assert str(caught.value) == "a record of version 2, not 1"


def with_text(role: bytes, site: bytes, kind: int = 1) -> bytes:
    target = b"" if kind == 1 else SESSION_ID + bytes(48)
    head = struct.pack(">BB16sHq16s", 1, kind, SESSION_ID, NOVEMBER.ordinal, AT_US, VISITOR)
    return head + target + bytes([len(role)]) + role + bytes([len(site)]) + site


@pytest.mark.parametrize(
    ("role", "site"),
    [
        (b"", b""),
        (b"us\0er", b"a.example"),
        (b"\0", b"a.example"),
        (b"", b"a\0.example"),
        (b"\xff", b"a.example"),
        (b"\xed\xa0\x80", b"a.example"),  # a lone surrogate
        (b"", "bücher.example".encode()),
    ],
)
def test_text_that_postgresql_could_not_hold_is_a_dead_letter(role: bytes, site: bytes) -> None:
    """One NUL or lone surrogate would kill a whole COPY."""
    with pytest.raises(DeadLetter):
        decode(with_text(role, site))


@pytest.mark.parametrize("kind", [2, 3])
def test_an_upgrade_without_a_role_is_a_dead_letter(kind: int) -> None:
    with pytest.raises(DeadLetter):
        decode(with_text(b"", b"a.example", kind))


@pytest.mark.parametrize("event", [UPGRADED, CURRENT_UPGRADED])
def test_an_upgrade_of_the_earlier_form_without_a_sign_in_is_a_dead_letter(event: Event) -> None:
    """And is never read as another."""
    record = encode(event)
    assert record[60:108] == b"p" * 16 + b"u" * 16 + b"v" * 16
    with pytest.raises(DeadLetter):
        decode(record[:60] + record[108:])


@pytest.mark.parametrize("ordinal", [0, 11])
def test_a_month_before_the_year_1_is_a_dead_letter(ordinal: int) -> None:
    record = bytearray(encode(STARTED))
    record[18:20] = struct.pack(">H", ordinal)
    with pytest.raises(DeadLetter):
        decode(bytes(record))


def test_the_longest_role_and_site_fit() -> None:
    event = SessionStarted(
        SESSION_ID, NOVEMBER, AT_US, "a" * SITE_MAX_BYTES, USER, "é" * (ROLE_MAX_BYTES // 2)
    )
    assert decode(encode(event)) == event


@pytest.mark.parametrize(
    "event",
    [
        SessionStarted(SESSION_ID, NOVEMBER, AT_US, "a" * (SITE_MAX_BYTES + 1), VISITOR, None),
        SessionStarted(SESSION_ID, NOVEMBER, AT_US, "a", VISITOR, "r" * (ROLE_MAX_BYTES + 1)),
        SessionStarted(SESSION_ID, NOVEMBER, AT_US, "bücher.example", VISITOR, None),
        SessionStarted(SESSION_ID, NOVEMBER, AT_US, "a", VISITOR, "\ud800"),
        SessionUpgraded(
            UPGRADE_ID, SESSION_ID, None, NOVEMBER, AT_US, "a", USER, "é" * ROLE_MAX_BYTES
        ),
    ],
)
def test_what_a_record_can_not_hold_is_never_written(event: Event) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode(event)


def test_the_last_month_that_two_bytes_hold_reads_back() -> None:
    event = SessionStarted(SESSION_ID, Month.from_ordinal(65535), AT_US, "a", VISITOR, None)
    assert decode(encode(event)) == event


@given(events)
def test_a_record_of_the_next_version_is_for_the_next_releases_flushers(event: Event) -> None:
    """Not to be set aside: what is set aside in too great a number is dropped."""
    with pytest.raises(NewerVersion):
        decode(bytes([NEXT_VERSION]) + encode(event)[1:])
