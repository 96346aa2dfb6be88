"""flusher/rows/counts.py: how a batch changes the counts, by person and by minute."""

from datetime import UTC, datetime, timedelta

from asyncpg.pgproto.pgproto import UUID
from hypothesis import given
from hypothesis import strategies as st

from contract.calendar import MINUTE_US, Month, from_us
from contract.record import SessionStarted, encode
from flusher.rows.batch import decode_entries
from flusher.rows.copy_format import EPOCH_US
from flusher.rows.counts import Counts, Session
from flusher.rows.entry import Entry
from tests.unit.events import NOVEMBER, STARTED, starts

NOON = (datetime(2026, 11, 10, 12, 0, tzinfo=UTC) - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(
    minutes=1
)
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
    changes = packed.by_month()
    assert changes == added.by_month()
    visitors = sum(sum(changed.as_visitor) for _, changed in changes)
    assert visitors == sum(event.role is None for event in good)


def test_changes_are_grouped_by_month_and_by_site() -> None:
    """An upgrade removes a visitor and adds a user. What is added and removed is no change."""
    counts, later = Counts(), NOVEMBER.plus(1).first_day
    counts.add(session()._replace(month=later))
    counts.add(session(site="c"))
    counts.remove(session(site="c"))
    for site in ("b", "a"):
        counts.add(session(BEN, site=site, signed_in=True))
        counts.remove(session(ANNA, site=site))
    (month, changed), (other_month, other) = counts.by_month()
    assert (month, other_month) == (NOVEMBER.first_day, later)
    assert (changed.sites, changed.firsts, changed.lasts) == (["a", "b"], [1, 3], [2, 4])
    assert changed.hashes == [ANNA.bytes, BEN.bytes] * 2
    assert (changed.as_visitor, changed.signed_in) == ([-1, 0] * 2, [0, 1] * 2)
    assert sorted(changed.minutes_sites) == ["a", "a", "b", "b"]
    by_minute = zip(changed.minutes_as_visitor, changed.minutes_signed_in, strict=True)
    assert sorted(by_minute) == [(-1, 0), (-1, 0), (0, 1), (0, 1)]
    assert changed.minutes == [NOON] * 4
    assert other.hashes == [ANNA.bytes]


def test_a_minute_begins_at_its_first_second_also_before_2000() -> None:
    """Records may be slightly older than the first month that is counted."""
    for at_us in (STARTED.at_us, 946_684_800_000_000 - 1, 946_684_800_000_000):
        counts = Counts()
        counts.add(session()._replace(created_at=from_us(at_us)))
        ((_, changed),) = counts.by_month()
        (minute,) = changed.minutes
        assert from_us(minute * MINUTE_US + EPOCH_US) == from_us(at_us).replace(
            second=0, microsecond=0
        )
