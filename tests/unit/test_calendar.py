"""contract/calendar.py: which month an instant is in, and when months begin and end."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contract.calendar import DAY_US, SECOND_US, Month, from_us, month_at, to_us

# Not before 2010: in 2009 Newfoundland's clocks last went back across the midnight before a month,
# so that an hour of the old month followed the new month's first instant.
months = st.builds(Month, st.integers(2010, 2100), st.integers(1, 12))
zones = st.sampled_from(sorted(available_timezones())).map(ZoneInfo)


def instant(text: str) -> int:
    return to_us(datetime.fromisoformat(text))


@given(st.integers(1, 9999), st.integers(1, 12))
def test_a_month_reads_back_from_its_text_and_from_its_ordinal(year: int, number: int) -> None:
    month = Month(year, number)
    assert Month.parse(str(month)) == month
    assert Month.from_ordinal(month.ordinal) == month
    assert month.first_day == date(year, number, 1)
    assert (str(Month(2026, 3)), str(Month(987, 12))) == ("2026-03", "0987-12")


@given(months, months)
def test_months_sort_alike_as_values_as_text_and_as_ordinals(one: Month, other: Month) -> None:
    """The rotation script compares them as text, the flusher as values."""
    assert (one < other) == (str(one) < str(other)) == (one.ordinal < other.ordinal)


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026", "2026-", "-11", "2026-00", "2026-13", "2026-1", "26-11", "0000-01"),
        *("2026-11-01", "2026/11", " 2026-11", "2026-11\n", "+026-11", "2026- 1"),
    ],
)
def test_a_text_that_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Month.parse(text)


@pytest.mark.parametrize(
    ("month", "count", "expected"),
    [
        (Month(2026, 12), 1, Month(2027, 1)),
        (Month(2026, 1), -1, Month(2025, 12)),
        (Month(2026, 5), 0, Month(2026, 5)),
        (Month(2026, 5), -25, Month(2024, 4)),
        # If a month were only its number, nothing would be rotated after exactly a year.
        (Month(2026, 11), 12, Month(2027, 11)),
    ],
)
def test_adding_months_crosses_years_both_ways(month: Month, count: int, expected: Month) -> None:
    assert month.plus(count) == expected
    assert (month == expected) == (count == 0)


@pytest.mark.parametrize(
    ("zone", "month", "starts"),
    [
        ("UTC", Month(2026, 11), "2026-11-01T00:00:00+00:00"),
        ("Europe/Brussels", Month(2026, 11), "2026-10-31T23:00:00+00:00"),
        ("Europe/Brussels", Month(2026, 7), "2026-06-30T22:00:00+00:00"),
        # 14 hours ahead: its month begins while UTC is in the morning of the day before.
        ("Pacific/Kiritimati", Month(2027, 1), "2026-12-31T10:00:00+00:00"),
        ("Pacific/Pago_Pago", Month(2027, 1), "2027-01-01T11:00:00+00:00"),
        ("Asia/Kathmandu", Month(2026, 2), "2026-01-31T18:15:00+00:00"),
        # No midnight: the clocks went from 00:00 to 01:00 on the first of the month.
        ("America/Sao_Paulo", Month(1966, 11), "1966-11-01T03:00:00+00:00"),
        ("Asia/Beirut", Month(1992, 5), "1992-04-30T22:00:00+00:00"),
        # Midnight twice: at 01:00 the clocks go back to 00:00. The first pass counts.
        ("America/Havana", Month(2026, 11), "2026-11-01T04:00:00+00:00"),
        # At 24:00 on the last day the clocks go back to 23:00, and that hour is the old month's.
        ("Africa/Cairo", Month(2024, 11), "2024-10-31T22:00:00+00:00"),
    ],
)
def test_a_month_begins_at_its_zones_first_instant_of_the_first(
    zone: str, month: Month, starts: str
) -> None:
    assert from_us(month.starts_us(ZoneInfo(zone))) == datetime.fromisoformat(starts)


@given(zones, months, st.integers(-2 * DAY_US, 2 * DAY_US))
@example(ZoneInfo("Pacific/Kiritimati"), Month(2027, 1), 0)
@example(ZoneInfo("America/Sao_Paulo"), Month(2018, 11), -1)
@example(ZoneInfo("America/Havana"), Month(2026, 11), 3600 * SECOND_US)
def test_an_instant_is_within_the_bounds_of_its_month_which_ends_where_the_next_begins(
    zone: ZoneInfo, near: Month, offset_us: int
) -> None:
    at = near.starts_us(zone) + offset_us
    month = month_at(at, zone)
    ends = month.ends_us(zone)
    assert month.starts_us(zone) <= at < ends == month.plus(1).starts_us(zone)
    assert month_at(ends - 1, zone) == month
    assert month_at(ends, zone) == month.plus(1)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis wants naive bounds
def test_instants_are_exact_to_the_microsecond_both_ways(at: datetime) -> None:
    assert from_us(to_us(at)) == at


def test_an_instant_does_not_depend_on_the_zone_that_it_is_written_in() -> None:
    assert instant("2026-11-01T00:00:00+01:00") == instant("2026-10-31T23:00:00+00:00")
    assert to_us(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0
    assert to_us(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1
