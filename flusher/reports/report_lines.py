"""What a report is made of: counts, changes, lines of months and sites. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from contract.calendar import Month


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted, of a site and month. Of several sites the sum: who was on two of them is in
    `people` twice. So is who came signed in and also not: without these there were at least
    `people_at_least`.
    """

    sessions: int = 0
    people: int = 0
    visitors: int = 0
    signed_in_sessions: int = 0
    signed_in_people: int = 0
    people_at_least: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.sessions + other.sessions,
            self.people + other.people,
            self.visitors + other.visitors,
            self.signed_in_sessions + other.signed_in_sessions,
            self.signed_in_people + other.signed_in_people,
            self.people_at_least + other.people_at_least,
        )


@dataclass(frozen=True, slots=True)
class Quality:
    """A row of the view `data_quality`."""

    comparable: bool = True
    began_on: date | None = None
    ended_on: date | None = None
    days_without_sessions: int = 0
    salts_replaced: int = 0
    salt_replaced_on: date | None = None
    sign_ins_given_up: int = 0
    sign_ins_waiting: int = 0
    dead_letters: int = 0
    sign_in_pairs: int = 0
    visitors_per_user: float | None = None
    users_per_visitor: float | None = None


@dataclass(frozen=True, slots=True)
class SignIns:
    """How far visitors' hashes are from people, by those who signed in: so many pairs of a user and
    a visitor's hash, with so many such hashes a user and users such a hash.
    """

    pairs: int
    visitors_per_user: float
    users_per_visitor: float


BySite = Mapping[str, Counts]


@dataclass(frozen=True, slots=True)
class Change:
    """Against an earlier month, as ratios (0.25: a quarter more), over so many sites."""

    sessions: float
    people: float
    sites: int


@dataclass(frozen=True, slots=True)
class Line:
    """A month of all sites (`site` is None) or of one.

    `share` is that of the month's sessions of all sites; `before` and `year` compare with the month
    before and with the same month a year ago. None, as of `sign_ins`: there is nothing fair to
    tell.
    """

    month: Month
    site: str | None
    counts: Counts
    unfinished: bool = False
    share: float | None = None
    before: Change | None = None
    year: Change | None = None
    remarks: tuple[str, ...] = ()
    sign_ins: SignIns | None = None

    @property
    def signed_in_share(self) -> float | None:
        """The share of sessions in which somebody was or got signed in."""
        return ratio(self.counts.signed_in_sessions, self.counts.sessions)

    @property
    def sessions_per_person(self) -> float | None:
        return ratio(self.counts.sessions, self.counts.people)


@dataclass(frozen=True, slots=True)
class Report:
    """`months` and `by_site` (by month, then those with most people first) end with the current
    month; both are empty where nothing was counted yet. `remarks` are about all of it.
    """

    site: str | None
    sites: int
    zone: str
    made_at: datetime
    months: list[Line]
    by_site: list[Line] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def sessions(self) -> int:
        """Of all months. There is no such number of people."""
        return sum(line.counts.sessions for line in self.months)


def ratio(part: int, whole: int) -> float | None:
    """None of an empty whole."""
    return part / whole if whole else None
