"""Writes a batch to PostgreSQL, in one transaction.

Sessions are copied directly into their table (COPY). This fails if one of them is stored already,
which is rare (after a repeat or a crash). Then the batch is staged in another table and merged: of
several copies of a session the earliest stays. Upgrades are matched with their sessions (`match.py`
has the rules), and wait if there is none. The counts are updated in the same transaction.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from contract.calendar import Month, from_us
from contract.errors import DeadLetter, Retry
from flusher.postgres import locks
from flusher.postgres.database import Database
from flusher.postgres.locks import Lock
from flusher.postgres.match import Matched, Matching, session_of
from flusher.postgres.statements import statement
from flusher.postgres.store_counts import store_counts
from flusher.rows.batch import Batch
from flusher.rows.copy_format import COLUMNS, copy_source
from flusher.rows.counts import Counts

# How long decided upgrades are kept, for late events; and how long others wait for their session.
KEPT: Final = timedelta(hours=1)
AWAITED: Final = timedelta(hours=48)


@dataclass(frozen=True, slots=True)
class Written:
    """How many events a transaction stored, how many changed nothing (duplicates), and how many
    upgrades came after an upgrade of another user; and the months (first days) whose salt was lost
    or replaced.
    """

    sessions: int = 0
    upgrades: int = 0
    duplicate_sessions: int = 0
    duplicate_upgrades: int = 0
    upgrades_of_others: int = 0
    salts_lost: tuple[date, ...] = ()


class _PartitionIsGone(Exception):
    """The partition of a month was dropped or detached."""


class SessionWriter:
    """Writes batches to a migrated database.

    Its methods raise Retry if PostgreSQL is away or busy.
    """

    def __init__(self, database: Database, zone: ZoneInfo) -> None:
        self._database = database
        self._zone = zone
        self._months: set[Month] = set()

    async def write(self, batch: Batch, *, briefly: bool = False) -> Written:
        """Stores a batch: all of it is committed when this returns, or none.

        Args:
            batch: what to store.
            briefly: each statement may only take a part of the usual time.

        Raises:
            DeadLetter: PostgreSQL refuses something in the batch.
            TimedOut: a statement took longer than allowed.
            Retry: also if a month's partition is gone; the next call creates it again. Repeating is
                safe.
        """
        await self.create_months(batch.months)
        try:
            async with self._database.connection() as connection:
                return await self._write_once(connection, batch, briefly=briefly)
        except _PartitionIsGone:
            self._months.clear()
            detail = "the partition of a month is gone; it is created again, unless it was dropped"
            raise Retry("postgres", detail) from None

    async def _write_once(
        self, connection: asyncpg.Connection, batch: Batch, *, briefly: bool
    ) -> Written:
        try:
            try:
                return await self._write(connection, batch, briefly=briefly, staged=False)
            except asyncpg.UniqueViolationError:
                return await self._write(connection, batch, briefly=briefly, staged=True)
        except asyncpg.CheckViolationError as error:
            if error.constraint_name is None:  # no constraint of a row, so no partition took it
                raise _PartitionIsGone from None
            raise

    async def create_months(self, months: Iterable[Month]) -> None:
        """Makes sure that months have their partitions.

        Raises:
            DeadLetter: the sessions of a month were dropped (SESSIONS_KEPT_MONTHS).
            Retry: also if a partition can't be created.
        """
        for month in set(months) - self._months:
            try:
                async with self._database.connection() as connection:
                    takes_sessions = await connection.fetchval(
                        "SELECT flusher.create_month($1)", month.first_day
                    )
            except DeadLetter as error:  # not the fault of a row: the cause can be removed
                detail = f"the partition of {month} can't be created: {error}"
                raise Retry("postgres", detail) from None
            if not takes_sessions:
                raise DeadLetter(
                    "month_dropped", f"the sessions of {month} were dropped: its counts are final"
                )
            self._months.add(month)

    async def purge(self) -> int:
        """Deletes upgrades that are no longer needed; returns how many never got their session."""
        async with self._database.connection() as connection:
            given_up = await connection.fetchval(statement("purge_upgrades"), KEPT, AWAITED)
        return int(given_up)

    async def server_us(self) -> int:
        """PostgreSQL's clock, in microseconds since the epoch."""
        async with self._database.connection() as connection:
            return int(await connection.fetchval(statement("server_clock")))

    async def count_waiting(self) -> int:
        """How many upgrades wait for their session."""
        async with self._database.connection() as connection:
            return int(await connection.fetchval(statement("count_waiting_upgrades")))

    async def _write(
        self, connection: asyncpg.Connection, batch: Batch, *, briefly: bool, staged: bool
    ) -> Written:
        async with connection.transaction():
            if briefly:
                await connection.execute(statement("be_brief"))
            await (locks.take if staged else locks.share)(connection, Lock.SESSIONS)
            counts = Counts()
            merged = _Merged()
            new = len(batch.starts)
            if staged:
                merged = await self._merge(connection, batch, counts)
                new = len(merged.stored) - len(merged.replaced)
            else:
                await self._copy(connection, "sessions", batch)
                counts.add_rows(list(batch.starts.values()))
            # Sees the batch's sessions, which may show that there was an earlier salt.
            salts_lost = await _insert_salts(connection, batch)
            matched = Matched()
            if batch.months:
                # As much as possible comes before the lock, for which other batches wait.
                sign_ins = await _store_sign_in_digests(connection, batch)
                stored = counts.by_month()
                await locks.take(connection, Lock.UPGRADES)
                await store_counts(connection, stored)
                changed = Counts()
                matching = Matching(connection, batch, self._zone, changed)
                matched = await matching.run(merged.stored, merged.replaced)
                await store_counts(connection, changed.by_month())
                if sign_ins:
                    await connection.execute(statement("count_sign_ins"), *_columns(sign_ins))
            copies, upgrades = matched.copies, matched.upgrades
            if new < len(batch.starts) or upgrades < len(batch.upgrades) or batch.salts:
                await _wait_for_replicas(connection)
        return Written(
            sessions=new - copies,
            upgrades=upgrades,
            duplicate_sessions=len(batch.starts) - new + copies + batch.repeated_starts,
            duplicate_upgrades=len(batch.upgrades) - upgrades + batch.repeated_upgrades,
            upgrades_of_others=matched.of_others,
            salts_lost=salts_lost,
        )

    async def _copy(self, connection: asyncpg.Connection, table: str, batch: Batch) -> None:
        if batch.starts:
            await connection.copy_to_table(
                table,
                # In the order of their ids, so that neighbours in the primary key come together.
                # asyncpg takes a buffer, too, but its stubs only know files.
                source=copy_source(sorted(batch.starts.values())),  # type: ignore[arg-type]
                columns=COLUMNS,
                format="binary",
            )

    async def _merge(
        self, connection: asyncpg.Connection, batch: Batch, counts: Counts
    ) -> "_Merged":
        await connection.execute(
            "CREATE TEMPORARY TABLE incoming_sessions (LIKE sessions) ON COMMIT DROP"
        )
        await self._copy(connection, "incoming_sessions", batch)
        # Before the merge: stored upgrades decide whether a copy replaces an upgraded session, and
        # another flusher may be about to commit one.
        await locks.take(connection, Lock.UPGRADES)
        rows = await connection.fetch(statement("merge_incoming_sessions"))
        known = {row["id"]: row for row in rows if not row["stored"]}
        merged = _Merged()
        for row in rows:
            if row["stored"]:
                merged.stored.append(row["id"])
                counts.add(session_of(row))
                if row["id"] in known:
                    merged.replaced.append(known[row["id"]])
                    counts.remove(session_of(known[row["id"]]))
        return merged


@dataclass(slots=True)
class _Merged:
    """The sessions that are new or replace a copy; and the replaced ones, as they were."""

    stored: list[UUID] = field(default_factory=list)
    replaced: list[asyncpg.Record] = field(default_factory=list)


async def _store_sign_in_digests(
    connection: asyncpg.Connection, batch: Batch
) -> list[asyncpg.Record]:
    """Returns how many are new: rows of month, site, kind and number."""
    if not batch.sign_ins:
        return []
    columns = _columns(batch.sign_ins.values())
    return list(await connection.fetch(statement("store_sign_in_digests"), *columns))


def _columns(rows: Iterable[Iterable[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def _wait_for_replicas(connection: asyncpg.Connection) -> None:
    """Makes the commit wait for the replicas, even if the transaction writes nothing.

    What it found in the database may be committed here and not yet on a replica, if another
    transaction's wait for synchronous replication was cut short. Without this wait, entries would
    be deleted whose rows a failover loses.
    """
    await connection.execute("SELECT pg_logical_emit_message(true, 'impact-tracking', '')")


async def _insert_salts(connection: asyncpg.Connection, batch: Batch) -> tuple[date, ...]:
    """Notes the salts that were made; returns the months whose salt was lost or replaced."""
    lost = []
    for salt in sorted(batch.salts.values(), key=lambda salt: salt.at_us):
        noted = await connection.fetch(
            statement("insert_salt"),
            UUID(salt.id),
            salt.month.first_day,
            salt.outcome,
            from_us(salt.at_us),
        )
        lost += [row["month"] for row in noted if row["counts_twice"]]
    return tuple(lost)
