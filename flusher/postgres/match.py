"""Matches the upgrades of a batch, and those that waited, with their sessions.

These rules give the same rows in whatever order, and however often, the events come:

* The first upgrade of a session wins, by the time of the request. An upgrade of another site, or of
  a month before the session's, does not match the session.
* `flusher/rows/current.py` decides which session an upgrade of `current` takes.
* If a session has copies in two months, because it was sent again at a month's end, the earlier
  month's copy stays.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from contract.calendar import DAY_US, Month, from_us
from flusher.postgres.match_current import Changed, Visitor, match_current
from flusher.postgres.statements import statement
from flusher.rows.batch import Batch, UpgradeRow
from flusher.rows.copy_format import began_us, visitor_of
from flusher.rows.counts import Counts, Session

# A page may send its session again for some minutes. For this long before and after a month's end,
# a session may have a copy in the other month.
REPEATED_WITHIN_US: Final = 2 * DAY_US
# Up to so many waiting upgrades, reading all of them is faster than reading those of the batch.
_AT_HAND: Final = 1000


class Matched(NamedTuple):
    """How many sessions were copies of a session in another month, how many of the batch's upgrades
    are not duplicates, and how many upgrades were for a session of another user.
    """

    copies: int = 0
    upgrades: int = 0
    of_others: int = 0


class Matching:
    """The matching of one batch, after its sessions are stored, in the same transaction.

    Runs under `Lock.UPGRADES`, and adds each change of a session to `counts`.
    """

    def __init__(
        self, connection: asyncpg.Connection, batch: Batch, zone: ZoneInfo, counts: Counts
    ) -> None:
        self._connection = connection
        self._batch = batch
        self._zone = zone
        self._counts = counts
        self._changed = Changed()
        self._of_others = 0

    async def run(self, merged: Iterable[UUID], replaced: list[asyncpg.Record]) -> Matched:
        """Matches what the batch has changed.

        Args:
            merged: the sessions of a staged batch, which may have replaced a copy.
            replaced: the sessions that were replaced, as they were.
        """
        copies = await self._delete_copies()
        changed = [*merged, *(copy["id"] for copy in copies)]
        (at_hand,) = await self._connection.fetch(statement("upgrades_at_hand"), _AT_HAND)
        decided = await self._match_by_id([*self._awaited(at_hand["awaited"]), *changed])
        new = [row for row in decided if row["is_new"]]
        repeats: set[UUID] = set()
        of_current = [row["id"] for row in new if row["session"] is None]
        if of_current or at_hand["of_current"]:
            self._note_current(decided)
            self._note_gone([*replaced, *copies], decided)
            repeats = await match_current(self._connection, self._changed, self._counts)
        superseded = sum(row["outcome"] == "superseded" for row in new)
        upgrades = len(new) - superseded - len(repeats.intersection(of_current))
        return Matched(len(copies), upgrades, self._of_others)

    async def _delete_copies(self) -> list[asyncpg.Record]:
        copied: list[UUID] = []
        by_other_month = self._near_months_end()
        for month, ids in by_other_month.items():
            query = "SELECT id FROM sessions WHERE id = ANY ($1::uuid[]) AND month = $2"
            found = await self._connection.fetch(query, ids, month.first_day)
            copied += [row["id"] for row in found]
        if not copied:
            return []
        copies = await self._connection.fetch(
            statement("delete_copies_in_later_months"),
            copied,
            min(by_other_month).plus(-1).first_day,
            max(by_other_month).plus(1).first_day,
        )
        for copy in copies:
            self._counts.remove(session_of(copy))
        return list(copies)

    def _near_months_end(self) -> dict[Month, list[UUID]]:
        """The batch's sessions near the start or end of their month, by the month next to that."""
        starts, candidates = self._batch.starts, self._batch.near_months_end
        inside = {month: self._inside(month) for month in set(candidates.values())}
        by_other_month: defaultdict[Month, list[UUID]] = defaultdict(list)
        for id_, month in candidates.items():
            if id_ not in starts:
                continue
            at_us = began_us(starts[id_])
            if at_us not in inside[month]:
                other = month.plus(-1 if at_us < inside[month].start else 1)
                by_other_month[other].append(UUID(id_))
        return by_other_month

    def _inside(self, month: Month) -> range:
        """The times in a month, in microseconds, that are far from its start and end."""
        return range(
            month.starts_us(self._zone) + REPEATED_WITHIN_US,
            month.ends_us(self._zone) - REPEATED_WITHIN_US + 1,
        )

    def _awaited(self, at_hand: list[UUID]) -> list[UUID]:
        """The batch's sessions for which upgrades may wait."""
        starts = self._batch.starts
        if len(at_hand) < _AT_HAND:
            return [session for session in at_hand if session.bytes in starts]
        return [*map(UUID, starts)]

    async def _match_by_id(self, sessions: list[UUID]) -> list[asyncpg.Record]:
        """Matches these sessions, and those that the batch's upgrades name. Returns the upgrades
        that are new or have changed.
        """
        upgrades = list(self._batch.upgrades.values())
        sessions += [row.session_id for row in upgrades if row.session_id is not None]
        if not upgrades and not sessions:
            return []
        columns = list(zip(*upgrades, strict=True)) or [()] * len(UpgradeRow._fields)
        rows = await self._connection.fetch(
            statement("match_upgrades"),
            *map(list, columns),
            sessions,
            # Nearly every session is of its upgrade's month, or of the one before.
            min(self._batch.months).plus(-1).first_day,
        )
        hashes = {row["session"]: row["hash_after"] for row in rows if row["outcome"] == "applied"}
        for row in rows:
            if row["session_month"] is None:
                continue
            if row["outcome"] == "applied":
                self._applied(row)
            elif row["month"] == row["session_month"]:
                hash_ = hashes.get(row["session"], row["hash_before"])
                self._of_others += row["user_hash"] != hash_
        return list(rows)

    def _applied(self, row: asyncpg.Record) -> None:
        before = Session(
            row["session_month"],
            row["site"],
            row["hash_before"],
            row["role_before"] is not None,
            row["created_at"],
        )
        self._counts.remove(before)
        self._counts.add(before._replace(monthly_user_hash=row["hash_after"], signed_in=True))
        visitor = Visitor(before.month, before.site, row["replaces"])
        self._changed.add_upgrade(visitor, row["upgraded_at"])

    def _note_current(self, decided: Iterable[asyncpg.Record]) -> None:
        for row in decided:
            if row["visitor_hash"] is not None:
                visitor = Visitor(row["month"], row["site"], row["visitor_hash"])
                self._changed.add_upgrade(visitor, row["upgraded_at"])
        for start in self._batch.starts.values():
            found = visitor_of(start)
            if found is not None:
                month, site, hash_ = found
                visitor = Visitor(month, site, UUID(hash_))
                self._changed.add_session(visitor, from_us(began_us(start)))

    def _note_gone(self, gone: Iterable[asyncpg.Record], decided: Iterable[asyncpg.Record]) -> None:
        """Notes sessions that were replaced or deleted (as they were), and their upgrades."""
        upgraders = {row["session"]: row for row in decided if row["replaced"] is not None}
        for session in gone:
            visitor = Visitor(session["month"], session["site"], session["monthly_user_hash"])
            if session["highest_role"] is None:
                self._changed.add_session(visitor, session["created_at"])
                continue
            upgrade = upgraders.get(session["id"])
            if upgrade is not None:
                visitor = visitor._replace(hash=upgrade["replaced"])
                self._changed.add_session(visitor, session["created_at"])
                self._changed.add_upgrade(visitor, upgrade["upgraded_at"])


def session_of(row: asyncpg.Record) -> Session:
    """A row of `sessions` as `Counts` needs it."""
    return Session(
        row["month"],
        row["site"],
        row["monthly_user_hash"],
        row["highest_role"] is not None,
        row["created_at"],
    )
