"""Adds up the changes of the counts, closes months, and drops old ones (`flusher/housekeeping.py`
says when). The views are exact whenever this runs.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import date, timedelta
from typing import Final

import asyncpg
import structlog

from contract.calendar import Month
from flusher.postgres import locks
from flusher.postgres.database import Database
from flusher.postgres.locks import Lock
from flusher.postgres.statements import statement
from runtime.periodic import Backoff, retry

# A month is closed this long after its end, by PostgreSQL's clock.
GRACE: Final = timedelta(days=3)
# But not while an entry in Redis is this old, by Redis's clock: it may be of that month.
WAITS_SECONDS: Final = 86_400.0
# A month is dropped at the second check that finds it, and the first one logs a warning.
DROP_EVERY_SECONDS: Final = 3600.0
_TRIES: Final = Backoff(0.05, 0.8)
_TRIES_SECONDS: Final = 1.6
# How long one try waits for its lock. New batches wait for as long.
_DROP_LOCK_TIMEOUT: Final = "200ms"
_CLOSE_LOCK_TIMEOUT: Final = "1s"

log = structlog.get_logger()

# The number of dead letters of each month and site; 0: only one of the next month may change it.
DeadPlaces = Callable[[], Awaitable[Mapping[tuple[Month, str], int]]]
# The age of the oldest entry in Redis, in seconds; 0: there is none.
OldestEntry = Callable[[], Awaitable[float]]


class MonthKeeper:
    """The regular work of one flusher. Several flushers may do it at the same time.

    Its methods raise Retry if PostgreSQL or Redis is away or busy.
    """

    def __init__(
        self,
        database: Database,
        oldest_entry: OldestEntry,
        dead_places: DeadPlaces,
        kept_months: int,
        ended_keep: str,
    ) -> None:
        """
        Args:
            database: with a connection of its own.
            oldest_entry: asks Redis. Raises Retry if it is unknown.
            dead_places: asks Redis. Months with dead letters are not closed.
            kept_months: how many finished months keep their sessions; 0: all.
            ended_keep: what the times of a closed month are rounded to: `hour`, `day` or `instant`.
        """
        self._database = database
        self._oldest_entry = oldest_entry
        self._dead_places = dead_places
        self._kept_months = kept_months
        self._ended_keep = ended_keep
        self._held: list[str] = []
        self._too_large: set[date] = set()
        self._to_drop: set[date] = set()

    async def fold(self) -> None:
        """Adds up the changes of the counts."""
        async with self._database.connection() as connection, connection.transaction():
            if await locks.try_to_take(connection, Lock.FOLD):
                await connection.execute(statement("fold_counts"))

    async def close(self) -> tuple[date, ...]:
        """Closes months that are over and have no entries or dead letters in Redis; returns them.
        Also closes months again that got sessions after they were closed. Before that, it stores
        how many dead letters each month and site has, for the view `data_quality`.
        """
        # Before the streams are checked: meanwhile one may be replayed into a stream.
        dead_places = await self._dead_places()
        async with self._database.connection() as connection:
            await _note_dead_letters(connection, dead_places)
            rows = await connection.fetch(statement("months_to_close"), GRACE, self._ended_keep)
            if not rows:
                return ()
            held = {month.first_day for month, _ in dead_places} & {row["month"] for row in rows}
            self._log_held(sorted(map(str, held)))
            if await self._oldest_entry() > WAITS_SECONDS:
                return ()
            closed = tuple(
                [
                    row["month"]
                    for row in rows
                    if row["month"] not in held | self._too_large
                    and await self._close_month(connection, row["month"])
                ]
            )
        if closed:
            log.info("months were closed", months=list(map(str, closed)))
        return closed

    async def _close_month(self, connection: asyncpg.Connection, month: date) -> bool:
        try:
            close = "SELECT flusher.close_month($1, $2)"
            return await _with_lock(connection, _CLOSE_LOCK_TIMEOUT, close, month, self._ended_keep)
        except asyncpg.QueryCanceledError:  # by statement_timeout
            # Not tried again, because batches wait meanwhile.
            self._too_large.add(month)
            log.warning(
                "closing a month took too long, and is not tried again until the next start",
                month=str(month),
                to_do=f"psql -c \"SELECT flusher.close_month('{month}', '{self._ended_keep}')\" "
                "as the owner, at a time when batches may wait longer in Redis",
            )
            return False

    def _log_held(self, months: list[str]) -> None:
        if months and months != self._held:
            log.warning(
                "months can't be closed: dead letters belong to them",
                months=months,
                to_do="python -m flusher dead list; replay or drop them",
            )
        self._held = months

    async def drop(self) -> tuple[date, ...]:
        """Drops the sessions of months that an earlier call has announced; returns them. Announces
        the next ones.
        """
        if not self._kept_months:
            return ()
        async with self._database.connection() as connection:
            rows = await connection.fetch(statement("months_to_drop"), self._kept_months)
            months = {row["month"] for row in rows}
            drop = "SELECT flusher.drop_month($1)"
            dropped = tuple(
                [
                    month
                    for month in sorted(months & self._to_drop)
                    if await _with_lock(connection, _DROP_LOCK_TIMEOUT, drop, month)
                ]
            )
        self._to_drop = months - set(dropped)
        if dropped:
            log.info("sessions were dropped; their counts stay", months=list(map(str, dropped)))
        if self._to_drop:
            log.warning(
                "sessions will be dropped at the next check",
                months=sorted(map(str, self._to_drop)),
                seconds=DROP_EVERY_SECONDS,
                to_do="nothing, or before that a higher SESSIONS_KEPT_MONTHS",
            )
        return dropped


async def _note_dead_letters(
    connection: asyncpg.Connection, places: Mapping[tuple[Month, str], int]
) -> None:
    rows = [(month.first_day, site, count) for (month, site), count in places.items() if count]
    async with connection.transaction():
        if await locks.try_to_take(connection, Lock.DEAD_LETTERS):
            await connection.execute(
                "DELETE FROM flusher.quality_counts WHERE kind = 'dead_letter'"
            )
            await connection.executemany(
                "INSERT INTO flusher.quality_counts VALUES ($1, $2, 'dead_letter', $3)", rows
            )


async def _with_lock(
    connection: asyncpg.Connection, lock_timeout: str, query: str, *arguments: object
) -> bool:
    """Runs a statement that takes a lock which all batches need. Waits for the lock in short tries,
    because new batches wait behind it. Returns false if all tries failed.
    """

    async def try_once() -> bool:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{lock_timeout}'")
            return bool(await connection.fetchval(query, *arguments))

    try:
        return await retry(try_once, asyncpg.LockNotAvailableError, _TRIES, within=_TRIES_SECONDS)
    except asyncpg.LockNotAvailableError:
        return False
