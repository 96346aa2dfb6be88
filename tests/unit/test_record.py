"""contract/record.py: an event's bytes, and that other bytes are a dead letter."""

import re
import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import DeadLetter, NewerVersion
from contract.record import (
    NEXT_VERSION,
    ROLE_MAX_BYTES,
    SITE_MAX_BYTES,
    VERSION,
    Event,
    SaltMade,
    SessionStarted,
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
    UPGRADED,
    VISITOR,
    events,
)

KINDS: list[Event] = [STARTED, UPGRADED, CURRENT_UPGRADED, SALT_MADE]


def layout(event: Event) -> bytes:
    """The record, encoded once more from its description."""
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
def test_a_record_follows_its_description_and_reads_back(event: Event) -> None:
    """Collectors and flushers of different releases must agree, and nothing else may be sent."""
    assert encode(event) == layout(event)
    assert decode(encode(event)) == event


def reason_of(record: bytes) -> str:
    with pytest.raises(DeadLetter) as caught:
        decode(record)
    return caught.value.reason


@pytest.mark.parametrize("event", KINDS)
def test_a_record_that_is_too_short_or_too_long_is_a_dead_letter(event: Event) -> None:
    record = encode(event)
    for length in range(len(record)):
        assert reason_of(record[:length]) == "undecodable"
    for tail in (b"\0", b"x", record):
        assert reason_of(record + tail) == "undecodable"


@pytest.mark.parametrize("event", KINDS)
def test_a_record_of_another_version_or_kind_is_a_dead_letter_with_that_reason(
    event: Event,
) -> None:
    """A later release's records must not be read by this one's rules. Those of the next version are
    no dead letters, of which too many are dropped: they wait for the next release's flushers.
    """
    record = encode(event)
    with pytest.raises(NewerVersion):
        decode(bytes([NEXT_VERSION]) + record[1:])
    for version in {*range(256)} - {VERSION, NEXT_VERSION}:
        assert reason_of(bytes([version]) + record[1:]) == "unknown_version"
    for kind in {*range(256)} - {1, 2, 3, 4}:
        assert reason_of(record[:1] + bytes([kind]) + record[2:]) == "unknown_kind"


@settings(max_examples=150)
@given(events, st.data())
def test_a_mutated_record_is_an_event_or_a_dead_letter_and_nothing_else(
    event: Event, data: st.DataObject
) -> None:
    record = bytearray(encode(event))
    for _ in range(data.draw(st.integers(1, 3))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = decode(bytes(record))
    except DeadLetter:
        return
    assert layout(read) == record, "two records would mean one event"
    if not isinstance(read, SaltMade):
        assert read.site
        assert "\0" not in read.site + (read.role or "")


@given(st.binary(min_size=1, max_size=120))
def test_a_dead_letters_reason_quotes_nothing_of_the_record(record: bytes) -> None:
    """Its text is stored and shown: it may contain only numbers and names of ours."""
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
    "record",
    [
        with_text(b"", b""),
        # One NUL or lone surrogate fails a whole COPY.
        *(with_text(role, b"a.example") for role in (b"us\0er", b"\0", b"\xff", b"\xed\xa0\x80")),
        *(with_text(b"", site) for site in (b"a\0.example", "bücher.example".encode())),
        # An upgrade without a role.
        *(with_text(b"", b"a.example", kind) for kind in (2, 3)),
        # A month before the year 1.
        *(encode(STARTED)[:18] + bytes([0, n]) + encode(STARTED)[20:] for n in (0, 11)),
        # An upgrade of the earlier form, which had no sign-in.
        *(encode(event)[:60] + encode(event)[108:] for event in (UPGRADED, CURRENT_UPGRADED)),
    ],
)
def test_what_postgresql_or_a_later_step_could_not_hold_is_a_dead_letter(record: bytes) -> None:
    assert reason_of(record) == "undecodable"


@pytest.mark.parametrize(
    "event",
    [
        replace(STARTED, site="a" * (SITE_MAX_BYTES + 1)),
        replace(STARTED, role="r" * (ROLE_MAX_BYTES + 1)),
        replace(STARTED, site="bücher.example"),
        replace(STARTED, role="\ud800"),
        replace(UPGRADED, role="é" * ROLE_MAX_BYTES),
    ],
)
def test_values_that_a_record_can_not_hold_are_refused(event: Event) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode(event)
