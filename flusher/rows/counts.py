"""What a batch changes in the counts, added up by person and by minute. Pure.

PostgreSQL alone decides to which calendar day a minute belongs, so that the kept counts and `check`
can't disagree. In every time zone a day begins at a whole minute.
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
    where_key,
    where_of,
)


class Session(NamedTuple):
    """The part of a session that counts depend on."""

    month: date
    site: str
    monthly_user_hash: UUID
    signed_in: bool
    created_at: datetime


class Changes(NamedTuple):
    """A month's changes as `count_changes.sql` takes them.

    `firsts` and `lasts` are the places (from 1) of each site's first and last person in the next
    three. `as_visitor` and `signed_in` are numbers of sessions: added, or removed if negative. The
    last four say the same by site and minute (`minute_of`).
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
    """The changes of one batch: numbers of added sessions, negative for removed ones."""

    def __init__(self) -> None:
        # Two of each: for visitors' sessions, and for signed-in users'.
        self._people: tuple[Counter[bytes], Counter[bytes]] = Counter(), Counter()
        self._minutes: tuple[Counter[tuple[int, bytes]], ...] = Counter(), Counter()
        self._wheres: dict[tuple[date, str], bytes] = {}

    def add_rows(self, rows: Sequence[bytes]) -> None:
        if not rows:
            return
        first, last = first_and_last_minute(rows)
        for signed_in in (False, True):
            people = people_of(rows, signed_in=signed_in)
            self._people[signed_in].update(people)
            wheres = [key[:-20] for key in people]
            if first == last:  # nearly always
                for where, number in Counter(wheres).items():
                    self._minutes[signed_in][first, where] += number
            else:
                minutes = minutes_of(rows, signed_in=signed_in)
                self._minutes[signed_in].update(zip(minutes, wheres, strict=True))
            if len(people) == len(rows):
                break

    def add(self, session: Session, number: int = 1) -> None:
        """Adds a session, or with -1 removes it."""
        place = session.month, session.site
        where = self._wheres.get(place)
        if where is None:
            where = self._wheres[place] = where_key(*place)
        person = person_key(where, session.monthly_user_hash.bytes)
        self._people[session.signed_in][person] += number
        self._minutes[session.signed_in][minute_of(to_us(session.created_at)), where] += number

    def remove(self, session: Session) -> None:
        """Removes a session that is gone, or as it was before a change."""
        self.add(session, -1)

    def by_month(self) -> list[tuple[date, Changes]]:
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
            where = people[first][:-20]
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
