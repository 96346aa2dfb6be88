"""What a batch changes in the counts, added up by person and by minute. Pure.

By minute, since PostgreSQL alone says which calendar day a minute is of (days begin at whole
minutes in every time zone): so the kept counts and `check` can't disagree.
"""

from collections.abc import Callable, Collection, Iterable
from datetime import date, datetime
from typing import Final, Generic, NamedTuple, TypeVar

from asyncpg.pgproto.pgproto import UUID

from contract.calendar import to_us
from flusher.copy_format import Tally, minute_key, minute_of, tally, where_key, where_of

_HASH_BYTES: Final = 16
_MINUTE_BYTES: Final = 8
Key = TypeVar("Key", UUID, datetime)


class Session(NamedTuple):
    """What counts of a session."""

    month: date
    site: str
    monthly_user_hash: UUID
    signed_in: bool
    created_at: datetime


class Columns(NamedTuple, Generic[Key]):
    """Changes as the statement `count_changes` takes them: an array each."""

    months: list[date]
    sites: list[str]
    keys: list[Key]
    as_visitor: list[int]
    signed_in: list[int]


class Counts:
    """One batch's changes: how many sessions more, or fewer, as a visitor's and signed in."""

    def __init__(self) -> None:
        self._people: Tally = {}
        self._minutes: Tally = {}
        self._wheres: dict[tuple[date, str], bytes] = {}

    def add_rows(self, rows: Iterable[bytes]) -> None:
        """Sessions that are new, as they are copied."""
        tally(rows, self._people, self._minutes)

    def add(self, session: Session, number: int = 1) -> None:
        """A session as it is now; with -1, as it was before."""
        place = session.month, session.site
        where = self._wheres.get(place)
        if where is None:
            where = self._wheres[place] = where_key(*place)
        person = session.monthly_user_hash.bytes + where
        minute = minute_key(to_us(session.created_at)) + where
        self._people.setdefault(person, [0, 0])[session.signed_in] += number
        self._minutes.setdefault(minute, [0, 0])[session.signed_in] += number

    def remove(self, session: Session) -> None:
        """A session as it was before, or that is gone."""
        self.add(session, -1)

    def people(self, months: Collection[date]) -> Columns[UUID]:
        """Changes of people of these months, in an order that is the same for all batches."""
        return _columns(self._people, months, _HASH_BYTES, UUID)

    def minutes(self, months: Collection[date]) -> Columns[datetime]:
        """Changes of minutes of these months."""
        return _columns(self._minutes, months, _MINUTE_BYTES, minute_of)

    def places_beyond(self, months: Collection[date]) -> list[tuple[date, str]]:
        """The other months in which anybody's count changes, with the sites, in order."""
        wheres = {key[_HASH_BYTES:] for key, change in self._people.items() if any(change)}
        wheres |= {key[_MINUTE_BYTES:] for key, change in self._minutes.items() if any(change)}
        places = map(where_of, wheres)
        return sorted(place for place in places if place[0] not in months)


def _columns(
    changes: Tally, months: Collection[date], key_bytes: int, key_of: Callable[[bytes], Key]
) -> Columns[Key]:
    columns: Columns[Key] = Columns([], [], [], [], [])
    places: dict[bytes, tuple[date, str]] = {}
    for key in sorted(changes):
        as_visitor, signed_in = changes[key]
        if not as_visitor and not signed_in:
            continue
        where = key[key_bytes:]
        place = places.get(where)
        if place is None:
            place = places[where] = where_of(where)
        month, site = place
        if month not in months:
            continue
        columns.months.append(month)
        columns.sites.append(site)
        columns.keys.append(key_of(key[:key_bytes]))
        columns.as_visitor.append(as_visitor)
        columns.signed_in.append(signed_in)
    return columns
