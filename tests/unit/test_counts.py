"""flusher/rows/counts.py: what a batch changes, by person and by minute."""

from datetime import UTC, datetime

from asyncpg.pgproto.pgproto import UUID
from hypothesis import given
from hypothesis import strategies as st

from contract.calendar import MINUTE_US, Month, from_us
from contract.record import SessionStarted, encode
from flusher.rows.batch import decode_entries
from flusher.rows.counts import Counts, Session
from flusher.rows.entry import Entry
from tests.unit.events import NOVEMBER, STARTED, starts

MONTHS = {NOVEMBER.first_day}
ANNA, BEN = (UUID(letter * 16) for letter in (b"a", b"b"))


def session(
    person: UUID = ANNA, *, signed_in: bool = False, site: str = "a.example.org"
) -> Session:
    began = datetime(2026, 11, 10, 12, 0, 30, tzinfo=UTC)
    return Session(NOVEMBER.first_day, site, person, signed_in, began)


def as_session(start: SessionStarted) -> Session:
    return Session(
        start.month.first_day,
        start.site,
        UUID(start.monthly_user_hash),
        start.role is not None,
        from_us(start.at_us),
    )


@given(st.lists(starts, min_size=1, max_size=20, unique_by=lambda start: start.id))
def test_rows_count_as_the_sessions_that_they_are(events: list[SessionStarted]) -> None:
    entries = [Entry(0, b"", encode(event)) for event in events]
    batch = decode_entries(entries, Month(9999, 12))
    good = [event for event in events if event.id in batch.starts]
    packed, added = Counts(), Counts()
    packed.add_rows(list(batch.starts.values()))
    for event in good:
        added.add(as_session(event))
    months = {event.month.first_day for event in events}
    assert packed.people(months) == added.people(months)
    assert packed.minutes(months) == added.minutes(months)
    assert sum(packed.people(months).as_visitor) == sum(event.role is None for event in good)


def test_what_comes_and_goes_changes_nothing() -> None:
    counts = Counts()
    counts.add(session())
    counts.remove(session())
    assert counts.people(MONTHS).hashes == counts.minutes(MONTHS).minutes == []
    assert counts.places_beyond(()) == []


def test_an_upgrade_is_one_visitor_less_and_one_user_more() -> None:
    counts = Counts()
    counts.remove(session(ANNA))
    counts.add(session(BEN, signed_in=True))
    people = counts.people(MONTHS)
    assert (people.hashes, people.as_visitor, people.signed_in) == ([ANNA, BEN], [-1, 0], [0, 1])
    assert (people.sites, people.firsts, people.lasts) == (["a.example.org"], [1], [2])
    minutes = counts.minutes(MONTHS)
    assert (minutes.as_visitor, minutes.signed_in) == ([-1], [1])
    assert minutes.minutes == [datetime(2026, 11, 10, 12, 0, tzinfo=UTC)]


def test_people_have_one_order_whatever_the_events() -> None:
    """So that two batches never wait for each other."""
    sessions = [session(who, site=site) for who in (BEN, ANNA) for site in ("b", "a")]
    orders = set()
    for events in (sessions, sessions[::-1]):
        counts = Counts()
        for event in events:
            counts.add(event)
        people = counts.people(MONTHS)
        assert people.sites == ["a", "b"]
        assert (people.firsts, people.lasts) == ([1, 3], [2, 4])
        orders.add(tuple(people.hashes))
    assert orders == {(ANNA, BEN, ANNA, BEN)}


def test_of_months_that_are_not_asked_for_only_the_sites_are_told() -> None:
    counts = Counts()
    counts.add(session(site="b.example.org"))
    counts.add(session(site="a.example.org"))
    assert counts.people(()) == ([], [], [], [], [], [], [])
    month = NOVEMBER.first_day
    assert counts.places_beyond(()) == [(month, "a.example.org"), (month, "b.example.org")]
    assert counts.places_beyond(MONTHS) == []


def test_a_minute_begins_where_it_begins_before_2000_too() -> None:
    """Records may be a little older than the first month that is counted."""
    for at_us in (STARTED.at_us, 946_684_800_000_000 - 1, 946_684_800_000_000):
        counts = Counts()
        counts.add(session()._replace(created_at=from_us(at_us)))
        (minute,) = counts.minutes(MONTHS).minutes
        assert minute == from_us(at_us - at_us % MINUTE_US)
