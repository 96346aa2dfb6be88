"""What a batch changes in the counts, added up by person and by minute. Pure.

By minute, since PostgreSQL alone says which calendar day a minute is of (days begin at whole
minutes in every time zone): so the kept counts and `check` can't disagree.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple

from asyncpg.pgproto.pgproto import UUID

from contract.calendar import to_us
from flusher.rows.copy_format import (
    minute_key,
    minute_of,
    minute_of_row,
    minutes_of,
    people_of,
    person_key,
    split_person,
    where_key,
    where_of,
)


class Session(NamedTuple):
    """What counts of a session."""

    month: date
    site: str
    monthly_user_hash: UUID
    signed_in: bool
    created_at: datetime


class Changes(NamedTuple):
    """A month's changes as the statement `count_changes` takes them.

    Of each site the places, from 1 on, of its first and last person; by person the hash and how
    many sessions more, or fewer, as a visitor's and signed in; and by site and minute the same.
    """

    sites: list[str]
    firsts: list[int]
    lasts: list[int]
    hashes: list[UUID]
    as_visitor: list[int]
    signed_in: list[int]
    minutes_sites: list[str]
    minutes: list[datetime]
    minutes_as_visitor: list[int]
    minutes_signed_in: list[int]


class Counts:
    """One batch's changes: how many sessions more, or fewer, as a visitor's and signed in."""

    def __init__(self) -> None:
        # By whether they are signed in.
        self._people: tuple[Counter[bytes], Counter[bytes]] = Counter(), Counter()
        self._minutes: tuple[Counter[tuple[bytes, bytes]], ...] = Counter(), Counter()
        self._wheres: dict[tuple[date, str], bytes] = {}

    def add_rows(self, rows: Sequence[bytes]) -> None:
        """Sessions that are new, as they are copied."""
        if not rows:
            return
        first, last = minutes_of(rows)
        for signed_in in (False, True):
            people = people_of(rows, signed_in=signed_in)
            self._people[signed_in].update(people)
            if first == last:  # as nearly always
                for where, number in Counter([key[:-20] for key in people]).items():
                    self._minutes[signed_in][first, where] += number
            if len(people) == len(rows):
                break
        if first != last:
            for row in rows:
                for signed_in in (False, True):
                    for key in people_of([row], signed_in=signed_in):
                        self._minutes[signed_in][minute_of_row(row), split_person(key)[0]] += 1

    def add(self, session: Session, number: int = 1) -> None:
        """A session as it is now; with -1, as it was before."""
        place = session.month, session.site
        where = self._wheres.get(place)
        if where is None:
            where = self._wheres[place] = where_key(*place)
        person = person_key(where, session.monthly_user_hash.bytes)
        self._people[session.signed_in][person] += number
        self._minutes[session.signed_in][minute_key(to_us(session.created_at)), where] += number

    def remove(self, session: Session) -> None:
        """A session as it was before, or that is gone."""
        self.add(session, -1)

    def by_month(self) -> list[tuple[date, Changes]]:
        """What changed, a month at a time."""
        changes: defaultdict[date, Changes] = defaultdict(
            lambda: Changes([], [], [], [], [], [], [], [], [], [])
        )
        self._add_people(changes)
        as_visitor, signed_in = self._minutes
        for key in as_visitor.keys() | signed_in.keys():
            if as_visitor[key] or signed_in[key]:
                month, site = where_of(key[1])
                changed = changes[month]
                changed.minutes_sites.append(site)
                changed.minutes.append(minute_of(key[0]))
                changed.minutes_as_visitor.append(as_visitor[key])
                changed.minutes_signed_in.append(signed_in[key])
        return sorted(changes.items())

    def _add_people(self, changes: Mapping[date, Changes]) -> None:
        as_visitor, signed_in = self._people
        keys = as_visitor.keys() | signed_in.keys() if signed_in else as_visitor.keys()
        people = sorted([key for key in keys if as_visitor.get(key) or signed_in.get(key)])
        first = 0
        while first < len(people):
            where, _ = split_person(people[first])
            last = bisect_right(people, person_key(where, b"\xff" * 16), lo=first)
            month, site = where_of(where)
            of_place, changed = people[first:last], changes[month]
            changed.sites.append(site)
            changed.firsts.append(len(changed.hashes) + 1)
            changed.hashes.extend([UUID(key[-16:]) for key in of_place])
            changed.as_visitor.extend([as_visitor.get(key, 0) for key in of_place])
            changed.signed_in.extend([signed_in.get(key, 0) for key in of_place])
            changed.lasts.append(len(changed.hashes))
            first = last
