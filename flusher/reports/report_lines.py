"""The parts of a report: counts, changes, and lines for months and sites. Pure."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from datetime import date, datetime
from operator import add

from contract.calendar import Month


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of a month and site, or their sum over several sites.

    `people` counts somebody twice who came to two of the sites, or who came signed in and also
    not. Without counting the latter twice there were at least `people_at_least`.
    """

    sessions: int = 0
    people: int = 0
    visitors: int = 0
    signed_in_sessions: int = 0
    signed_in_people: int = 0
    people_at_least: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*map(add, astuple(self), astuple(other)))


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
    """How far visitors are from people, measured by those who signed in: the pairs of a user and a
    visitor's hash, the visitors' hashes for each user, and the users for each such hash.
    """

    pairs: int
    visitors_per_user: float
    users_per_visitor: float


BySite = Mapping[str, Counts]


@dataclass(frozen=True, slots=True)
class Change:
    """The change since an earlier month, as ratios (0.25: a quarter more), of so many sites."""

    sessions: float
    people: float
    sites: int


@dataclass(frozen=True, slots=True)
class Line:
    """A month of one site, or of all sites (`site` is None).

    `share` is this site's part of the month's sessions. `before` is the change since the month
    before, `year` the change since the same month of the year before. Like `sign_ins`, they are
    None if no fair comparison is possible.
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
        """The share of sessions that began signed in, or whose visitor signed in."""
        return ratio(self.counts.signed_in_sessions, self.counts.sessions)

    @property
    def sessions_per_person(self) -> float | None:
        return ratio(self.counts.sessions, self.counts.people)


@dataclass(frozen=True, slots=True)
class Report:
    """`months` and `by_site` (by month, then the sites with most people first) end with the current
    month. Both are empty if nothing was counted yet. `remarks` are about the whole report.
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
        """The sum over all months. People can't be summed over months."""
        return sum(line.counts.sessions for line in self.months)


def ratio(part: int, whole: int) -> float | None:
    """None if the whole is zero."""
    return part / whole if whole else None
