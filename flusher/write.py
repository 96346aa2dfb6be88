"""Step 3: a batch into PostgreSQL, in one transaction.

Sessions go straight into their table by COPY. One that is there already aborts that, which is rare
(a repeat, a crash): then the batch is staged and merged. Upgrades are stored, matched with their
sessions, and left waiting where there is none.

The rules, which end in the same rows in whatever order and however often events come:

* Of copies of one session the earliest stays, also across a month's end.
* Of a session's upgrades the first stays, by the time of the request. One of another site, or of
  a month before the session's own, is not that session's.
* An upgrade of `current` takes the newest session of its visitor that is anonymous at that time.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from contract.calendar import DAY_US, Month, from_us
from contract.errors import DeadLetter
from flusher.batch import Batch
from flusher.copy_format import COLUMNS, began_us, copy_source, visitor_hash
from flusher.database import Database
from flusher.statements import statement

# A start and the upgrade that a page sends after it may be handled by two collectors, whose clocks
# differ, or on two connections, of which the second is faster.
OVERTAKING: Final = timedelta(seconds=10)
# A page sends a start again for minutes, not days: until then its id is looked for on both sides of
# a month's end.
REPEATED_WITHIN_US: Final = 2 * DAY_US
# Decided upgrades are kept for late events; undecided ones for a session that is still to come.
KEPT: Final = timedelta(hours=1)
AWAITED: Final = timedelta(hours=48)
# Of so many waiting upgrades it is quicker to ask for all than for those of a batch's sessions.
_AT_HAND: Final = 1000


@dataclass(frozen=True, slots=True)
class Written:
    """How many events a transaction stored, and how many changed nothing."""

    sessions: int = 0
    upgrades: int = 0
    duplicate_sessions: int = 0
    duplicate_upgrades: int = 0


class SessionWriter:
    """Writes batches to a migrated database."""

    def __init__(self, database: Database, zone: ZoneInfo) -> None:
        self._database = database
        self._zone = zone
        self._months: set[Month] = set()
        self._indexed_months: set[Month] = set()

    async def write(self, batch: Batch) -> Written:
        """Stores a batch: all of it is committed when this returns, or none.

        Raises:
            DeadLetter: PostgreSQL refuses something in the batch.
            Retry: PostgreSQL is away or busy; a repeat is safe.
        """
        await self.create_months(batch.months)
        await self._index_visitors(batch.months_of_current)
        async with self._database.connection() as connection:
            try:
                return await self._write(connection, batch, staged=False)
            except asyncpg.UniqueViolationError:
                return await self._write(connection, batch, staged=True)
            except asyncpg.CheckViolationError:
                self._months.clear()  # one of them may have been dropped
                raise

    async def create_months(self, months: Iterable[Month]) -> None:
        """Makes sure that months have their partitions.

        Raises:
            DeadLetter: the sessions of one were dropped (SESSIONS_KEPT_MONTHS).
            Retry: PostgreSQL is away or busy.
        """
        for month in set(months) - self._months:
            try:
                async with self._database.connection() as connection:
                    await connection.execute("SELECT flusher.create_month($1)", month.first_day)
            except DeadLetter:
                raise DeadLetter(
                    "month_dropped", f"the sessions of {month} were dropped: its counts are final"
                ) from None
            self._months.add(month)

    async def purge(self) -> int:
        """Forgets upgrades that can't matter any more; how many waited in vain.

        Raises:
            Retry: PostgreSQL is away or busy.
        """
        async with self._database.connection() as connection:
            given_up = await connection.fetchval(statement("purge_upgrades"), KEPT, AWAITED)
        return int(given_up)

    async def count_waiting(self) -> int:
        """How many upgrades wait for their session.

        Raises:
            Retry: PostgreSQL is away or busy.
        """
        async with self._database.connection() as connection:
            return int(await connection.fetchval(statement("count_waiting_upgrades")))

    async def _index_visitors(self, months: Iterable[Month]) -> None:
        for month in set(months) - self._indexed_months:
            async with self._database.connection() as connection, connection.transaction():
                # Once a month at the most, and the streams hold what comes meanwhile.
                await connection.execute("SET LOCAL statement_timeout = 0")
                await connection.execute("SELECT flusher.index_visitors($1)", month.first_day)
            self._indexed_months.add(month)

    async def _write(
        self, connection: asyncpg.Connection, batch: Batch, *, staged: bool
    ) -> Written:
        async with connection.transaction():
            await connection.execute(statement("lock_sessions" if staged else "share_sessions"))
            await _insert_salts(connection, batch)
            changed: list[UUID] = []
            new = len(batch.starts)
            if staged:
                changed, new = await self._merge(connection, batch)
            else:
                await self._copy(connection, "sessions", batch)
            copies = upgrades = 0
            if batch.months:
                matching = _Matching(connection, batch, self._zone)
                copies, upgrades = await matching.run(changed)
        return Written(
            sessions=new - copies,
            upgrades=upgrades,
            duplicate_sessions=len(batch.starts) - new + copies + batch.repeated_starts,
            duplicate_upgrades=len(batch.upgrades) - upgrades + batch.repeated_upgrades,
        )

    async def _copy(self, connection: asyncpg.Connection, table: str, batch: Batch) -> None:
        if batch.starts:
            await connection.copy_to_table(
                table,
                # A buffer goes out as it is, though the stubs know of files only.
                source=copy_source(batch.starts.values()),  # type: ignore[arg-type]
                columns=COLUMNS,
                format="binary",
            )

    async def _merge(self, connection: asyncpg.Connection, batch: Batch) -> tuple[list[UUID], int]:
        """The sessions that are new or replaced, and how many of them are new."""
        await connection.execute(statement("create_incoming_sessions"))
        await self._copy(connection, "incoming_sessions", batch)
        # Before the merge: whether a copy may replace an upgraded session is told by the upgrade,
        # which must not be one that another flusher is just about to commit.
        await connection.execute(statement("lock_upgrades"))
        rows = await connection.fetch(statement("merge_incoming_sessions"))
        return [row["id"] for row in rows], sum(row["is_new"] for row in rows)


@dataclass(frozen=True, slots=True)
class _Stored:
    """What `store_upgrades` says of the upgrades that are new."""

    count: int = 0
    waiting: Sequence[UUID] = ()
    waited_for: Sequence[UUID] = ()
    of_current: Sequence[UUID] = ()
    replaced: Sequence[UUID] = ()


class _Matching:
    """The second half of a transaction: upgrades find their sessions."""

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

    async def _store_upgrades(self, *, of_current: bool) -> "_Stored":
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


async def _insert_salts(connection: asyncpg.Connection, batch: Batch) -> None:
    salts = list(batch.salts.values())
    if salts:
        await connection.execute(
            statement("insert_salts"),
            [UUID(salt.id) for salt in salts],
            [salt.month.first_day for salt in salts],
            [salt.outcome for salt in salts],
            [from_us(salt.at_us) for salt in salts],
        )


async def _column(connection: asyncpg.Connection, name: str, *arguments: object) -> list[UUID]:
    return [row[0] for row in await connection.fetch(statement(name), *arguments)]
