"""What a batch changes in the counts, added up by person and by minute. Pure.

By minute, since PostgreSQL alone says which calendar day a minute is of (days begin at whole
minutes in every time zone): so the kept counts and `check` can't disagree.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from itertools import repeat
from typing import NamedTuple

from asyncpg.pgproto.pgproto import UUID

from contract.calendar import to_us
from flusher.rows.copy_format import (
    first_and_last_minute,
    minute_of,
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
    many sessions more, or fewer, as a visitor's and signed in; and by site and minute, from the
    beginning of 2000 on, the same.
    """

    sites: list[str]
    firsts: list[int]
    lasts: list[int]
    hashes: list[bytes]
    as_visitor: list[int]
    signed_in: list[int]
    minutes_sites: list[str]
    minutes: list[int]
    minutes_as_visitor: list[int]
    minutes_signed_in: list[int]


class Counts:
    """One batch's changes: how many sessions more, or fewer, as a visitor's and signed in."""

    def __init__(self) -> None:
        # By whether they are signed in.
        self._people: tuple[Counter[bytes], Counter[bytes]] = Counter(), Counter()
        self._minutes: tuple[Counter[tuple[int, bytes]], ...] = Counter(), Counter()
        self._wheres: dict[tuple[date, str], bytes] = {}

    def add_rows(self, rows: Sequence[bytes]) -> None:
        """Sessions that are new, as they are copied."""
        if not rows:
            return
        first, last = first_and_last_minute(rows)
        for signed_in in (False, True):
            people = people_of(rows, signed_in=signed_in)
            self._people[signed_in].update(people)
            wheres = [key[:-20] for key in people]
            if first == last:  # as nearly always
                for where, number in Counter(wheres).items():
                    self._minutes[signed_in][first, where] += number
            else:
                minutes = minutes_of(rows, signed_in=signed_in)
                self._minutes[signed_in].update(zip(minutes, wheres, strict=True))
            if len(people) == len(rows):
                break

    def add(self, session: Session, number: int = 1) -> None:
        """A session as it is now; with -1, as it was before."""
        place = session.month, session.site
        where = self._wheres.get(place)
        if where is None:
            where = self._wheres[place] = where_key(*place)
        person = person_key(where, session.monthly_user_hash.bytes)
        self._people[session.signed_in][person] += number
        self._minutes[session.signed_in][minute_of(to_us(session.created_at)), where] += number

    def remove(self, session: Session) -> None:
        """A session as it was before, or that is gone."""
        self.add(session, -1)

    def by_month(self) -> list[tuple[date, Changes]]:
        """What changed, a month at a time."""
        changes: defaultdict[date, Changes] = defaultdict(
            lambda: Changes([], [], [], [], [], [], [], [], [], [])
        )
        self._add_people(changes)
        places: dict[bytes, tuple[str, Changes]] = {}
        for signed_in, minutes in enumerate(self._minutes):
            for (minute, where), number in minutes.items():
                if number:
                    if where not in places:
                        month, site = where_of(where)
                        places[where] = site, changes[month]
                    site, changed = places[where]
                    changed.minutes_sites.append(site)
                    changed.minutes.append(minute)
                    changed.minutes_as_visitor.append(0 if signed_in else number)
                    changed.minutes_signed_in.append(number if signed_in else 0)
        return sorted(changes.items())

    def _add_people(self, changes: Mapping[date, Changes]) -> None:
        as_visitor, signed_in = self._people
        people = sorted(
            {key for people in self._people for key, number in people.items() if number}
        )
        first = 0
        while first < len(people):
            where, _ = split_person(people[first])
            last = bisect_right(people, person_key(where, b"\xff" * 16), lo=first)
            month, site = where_of(where)
            of_place, changed = people[first:last], changes[month]
            changed.sites.append(site)
            changed.firsts.append(len(changed.hashes) + 1)
            changed.hashes.extend([key[-16:] for key in of_place])
            changed.as_visitor.extend(map(as_visitor.get, of_place, repeat(0)))
            changed.signed_in.extend(map(signed_in.get, of_place, repeat(0)))
            changed.lasts.append(len(changed.hashes))
            first = last
