"""A month's salt, the term in which it may be used, and what the salt's server reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from contract.calendar import DAY_US, SECOND_US, Month
from contract.identity import Hasher

# The length of the shortest month: flushers refuse sessions of a month after the next one.
_FARTHEST_AHEAD_US = 28 * DAY_US


class Outcome(StrEnum):
    """What `ensure` found or did."""

    UNCHANGED = "unchanged"  # the month has its salt
    ROTATED = "rotated"  # a new month: it has one now, and the earlier month's is destroyed
    FIRST = "first"  # no month was recorded: a new installation, or everything was lost
    LOST = "lost"  # the month's salt was gone, and a new one was made: visitors count again
    REPLACED = "replaced"  # as LOST, but on request
    RESTORED = "restored"  # the month's salt was gone, and a process that held it has put it back
    CLOCK_WENT_BACK = "clock_went_back"  # a later month is recorded: its salt stays in force
    ANOTHER_CALENDAR = "another_calendar"  # an earlier month goes on, by rotation's calendar


@dataclass(frozen=True, slots=True)
class Term:
    """A month, and the bounds within which its salt may be used, in microseconds."""

    month: Month
    starts_us: int
    ends_us: int

    def makes_rows_at(self, now_us: int) -> bool:
        """Whether flushers accept sessions of this month now: it is not too far ahead."""
        return self.starts_us - now_us <= _FARTHEST_AHEAD_US


@dataclass(frozen=True, slots=True)
class Salt(Term):
    """A month's salt, for its term."""

    value: bytes = field(repr=False)
    hasher: Hasher = field(init=False, repr=False, compare=False)

    @classmethod
    def of(cls, term: Term, value: bytes) -> Self:
        return cls(term.month, term.starts_us, term.ends_us, value)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hasher", Hasher(self.value))  # the only write to a frozen object


@dataclass(frozen=True, slots=True)
class Ensured:
    """Which month's salt is in force, what was done, and the server's clock in microseconds.

    `other_calendar`: the salt's key does not expire when the month ends by our calendar, because
    rotation has another `CALENDAR_TIMEZONE`, or has just changed it.
    """

    outcome: Outcome
    term: Term
    server_us: int
    other_calendar: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """What the server has: a month's salt, its clock in microseconds, and the recorded month.
    `other_calendar`: as in `Ensured`.
    """

    salt: Salt | None
    server_us: int
    recorded: Month | None
    other_calendar: bool = False


def made_at_us(fields: Mapping[bytes, bytes]) -> int:
    """When a salt was made, in microseconds, from an entry of the record of rotations."""
    return int(fields[b"at"]) * 1000


def microseconds(time: Sequence[int | bytes]) -> int:
    """A Redis server's clock, from the seconds and microseconds that TIME returns."""
    return int(time[0]) * SECOND_US + int(time[1])
