"""Step 3, second half: the upgrades of a batch, and those that waited, find their sessions.

The rules, which end in the same rows in whatever order and however often events come:

* Of a session's upgrades the first stays, by the time of the request. One of another site, or of
  a month before the session's own, is not that session's.
* An upgrade of `current` takes the newest session of its visitor that is anonymous at that time.
* Of copies of one session on both sides of a month's end the earlier month's stays.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from contract.calendar import DAY_US, Month
from flusher.batch import Batch
from flusher.copy_format import began_us, visitor_hash
from flusher.statements import statement

# A start and the upgrade that a page sends after it may be handled by two collectors, whose clocks
# differ, or on two connections, of which the second is faster.
OVERTAKING: Final = timedelta(seconds=10)
# A page sends a start again for minutes, not days: until then its id is looked for on both sides of
# a month's end.
REPEATED_WITHIN_US: Final = 2 * DAY_US
# Of so many waiting upgrades it is quicker to ask for all than for those of a batch's sessions.
_AT_HAND: Final = 1000


@dataclass(frozen=True, slots=True)
class _Stored:
    """What `store_upgrades` says of the upgrades that are new."""

    count: int = 0
    waiting: Sequence[UUID] = ()
    waited_for: Sequence[UUID] = ()
    of_current: Sequence[UUID] = ()
    replaced: Sequence[UUID] = ()


class Matching:
    """One batch's, after its sessions are stored and in the same transaction."""

    def __init__(self, connection: asyncpg.Connection, batch: Batch, zone: ZoneInfo) -> None:
        self._connection = connection
        self._batch = batch
        self._zone = zone

    async def run(self, merged: list[UUID]) -> tuple[int, int]:
        """Matches what the batch has changed.

        Args:
            merged: sessions that may have replaced a copy of themselves.

        Returns:
            How many sessions were copies of one in another month, and how many of the batch's
            upgrades were news.
        """
        await self._connection.execute(statement("lock_upgrades"))
        copies = await self._delete_copies()
        replaced = [*merged, *copies]
        released = await _column(self._connection, "release_upgrades", replaced) if replaced else []
        (at_hand,) = await self._connection.fetch(statement("upgrades_at_hand"), _AT_HAND)
        awaited = await self._awaited(at_hand["awaited"])
        new = await self._store_upgrades(of_current=at_hand["of_current"])
        wanted = [*awaited, *new.waited_for, *replaced]
        applied, superseded = await self._match_by_id(wanted)
        if new.of_current or at_hand["of_current"]:
            changed = [*new.of_current, *released]
            await self._match_current(changed, new.replaced, applied)
        return len(copies), new.count - len(superseded & set(new.waiting))

    async def _delete_copies(self) -> list[UUID]:
        near = [
            (UUID(id_), month)
            for id_, month in self._batch.near_months_end.items()
            if id_ in self._batch.starts and self._is_near(began_us(self._batch.starts[id_]), month)
        ]
        if not near:
            return []
        months = [month for _, month in near]
        return await _column(
            self._connection,
            "delete_copies_in_later_months",
            [id_ for id_, _ in near],
            min(months).plus(-1).first_day,
            max(months).plus(1).first_day,
        )

    def _is_near(self, at_us: int, month: Month) -> bool:
        return (
            at_us - month.starts_us(self._zone) < REPEATED_WITHIN_US
            or month.ends_us(self._zone) - at_us < REPEATED_WITHIN_US
        )

    async def _awaited(self, at_hand: list[UUID]) -> list[UUID]:
        """The batch's sessions for which upgrades wait."""
        starts = self._batch.starts
        if len(at_hand) < _AT_HAND:
            return [session for session in at_hand if session.bytes in starts]
        return await _column(self._connection, "sessions_awaited", [*map(UUID, starts)])

    async def _store_upgrades(self, *, of_current: bool) -> _Stored:
        upgrades = list(self._batch.upgrades.values())
        if not upgrades:
            return _Stored()
        named = Counter(upgrade.session_id for upgrade in upgrades)
        (row,) = await self._connection.fetch(
            statement("store_upgrades"),
            *map(list, zip(*upgrades, strict=True)),
            [named[upgrade.session_id] == 1 for upgrade in upgrades],
            self._where_to_look()[0],
            of_current or self._batch.months_of_current != set(),
        )
        return _Stored(**row)

    async def _match_by_id(self, wanted: list[UUID]) -> tuple[list[UUID], set[UUID]]:
        """Matches sessions with their upgrades: the sessions changed, the upgrades superseded."""
        applied: list[UUID] = []
        superseded: set[UUID] = set()
        for earliest in self._where_to_look() if wanted else ():
            applied += await _column(self._connection, "apply_upgrades", wanted, earliest)
            superseded |= {*await _column(self._connection, "supersede_upgrades", wanted, earliest)}
            wanted = await _column(self._connection, "sessions_awaited", wanted)
            if not wanted:
                break
        return applied, superseded

    def _where_to_look(self) -> tuple[date, ...]:
        # Nearly every session is of the month of its upgrade or the one before; a page that was
        # left open for longer is looked for everywhere.
        return min(self._batch.months).plus(-1).first_day, date.min

    async def _match_current(
        self, changed: Collection[UUID], replaced: Collection[UUID], applied: list[UUID]
    ) -> None:
        visitors = filter(None, map(visitor_hash, self._batch.starts.values()))
        await self._connection.execute(
            statement("resolve_visitors"),
            changed,
            [*map(UUID, visitors), *replaced],
            applied,
            OVERTAKING,
        )


async def _column(connection: asyncpg.Connection, name: str, *arguments: object) -> list[UUID]:
    return [row[0] for row in await connection.fetch(statement(name), *arguments)]
