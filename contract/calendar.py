"""Calendar months in the time zone `CALENDAR_TIMEZONE`.

In the whole project an instant is whole microseconds since the Unix epoch, in UTC. PostgreSQL
stores the same, and the number stays exact in JSON and in a struct.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
DAY_US = 86_400 * SECOND_US


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month, written `2026-11` in Redis and `2026-11-01` in PostgreSQL."""

    year: int
    number: int

    def __post_init__(self) -> None:
        date(self.year, self.number, 1)  # raises ValueError if there is no such month

    @classmethod
    def parse(cls, text: str) -> "Month":
        """The month of a text such as `2026-11`; ValueError for any other form."""
        year, dash, number = text.partition("-")
        if not (dash and len(year) == 4 and len(number) == 2 and (year + number).isdigit()):
            raise ValueError(f"not a month: {text!r}")
        return cls(int(year), int(number))

    @classmethod
    def from_ordinal(cls, ordinal: int) -> "Month":
        """The inverse of `ordinal`."""
        return cls(ordinal // 12, ordinal % 12 + 1)

    @property
    def ordinal(self) -> int:
        """Months since the year 0: the two-byte form in a record."""
        return self.year * 12 + self.number - 1

    @property
    def first_day(self) -> date:
        return date(self.year, self.number, 1)

    def plus(self, months: int) -> "Month":
        return Month.from_ordinal(self.ordinal + months)

    def starts_us(self, zone: tzinfo) -> int:
        """The instant at which the month begins in `zone`, in microseconds.

        If daylight saving skips or repeats midnight, this is the first instant with the new
        date: the end of the gap, or the first of the two midnights (PEP 495).
        """
        return to_us(datetime(self.year, self.number, 1, tzinfo=zone))

    def ends_us(self, zone: tzinfo) -> int:
        """The instant at which the next month begins."""
        return self.plus(1).starts_us(zone)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"


def month_at(instant_us: int, zone: tzinfo) -> Month:
    """The calendar month in `zone` at an instant given in microseconds."""
    local = from_us(instant_us).astimezone(zone)
    return Month(local.year, local.month)


def to_us(instant: datetime) -> int:
    """An aware datetime in microseconds since the epoch."""
    return (instant.astimezone(UTC) - _EPOCH) // _MICROSECOND


def from_us(instant_us: int) -> datetime:
    """Microseconds since the epoch as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=instant_us)
