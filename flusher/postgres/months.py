"""What becomes of counts and months, beside the worker and on a connection of its own: changes are
added up, months are closed and dropped.

No flush waits for it, and nothing that anybody reads depends on when it runs: the views are exact
at any moment.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import asyncpg
import structlog

from contract.calendar import Month
from contract.errors import DeadLetter, Misconfigured, Retry
from contract.flusher_metrics import FlusherMetrics
from flusher.postgres import locks
from flusher.postgres.database import Database
from flusher.postgres.locks import Lock
from flusher.postgres.statements import statement
from runtime.periodic import FailureLog, Interval, repeat
from runtime.retry import Backoff, retry
from runtime.stopping import Stopping

# A month is closed this long after its end, by PostgreSQL's clock.
GRACE: Final = timedelta(days=3)
# And not while anything this old waits in Redis, by Redis's clock: it may be of that month.
WAITS_SECONDS: Final = 86_400.0
_PAUSE_SECONDS: Final = 1.0
# What is to be closed or dropped is looked for this often, and what is to be dropped is said a look
# before.
_LOOK_SECONDS: Final = 60.0
_DROP_SECONDS: Final = 3600.0
_TURNS: Final = Backoff(0.05, 0.8)
_TURNS_SECONDS: Final = 1.6
# How long batches are barred, each turn, by who waits for others to end.
_DROP_WAITS: Final = "200ms"
_CLOSE_WAITS: Final = "1s"

log = structlog.get_logger()

# How many dead letters there are of each month and site; 0: of none, but one could still change it.
DeadPlaces = Callable[[], Awaitable[Mapping[tuple[Month, str], int]]]
# How many seconds the oldest entry has waited in Redis; 0 where none does.
OldestEntry = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Done:
    """What one look came to, as months."""

    closed: tuple[date, ...] = ()
    dropped: tuple[date, ...] = ()


class MonthKeeper:
    """One flusher's; several don't get in each other's way."""

    def __init__(
        self,
        database: Database,
        oldest_entry: OldestEntry,
        kept_months: int,
        ended_keep: str = "instant",
        dead_places: DeadPlaces | None = None,
    ) -> None:
        """
        Args:
            database: with a connection of its own.
            oldest_entry: asks Redis. Raises Retry where that is not known.
            kept_months: so many finished months keep their sessions; 0: all do.
            ended_keep: how fine a closed month's times stay: `hour`, `day` or `instant`.
            dead_places: asks Redis, too; those months are not closed. None: there are none.
        """
        self._database = database
        self._oldest_entry = oldest_entry
        self._kept_months = kept_months
        self._ended_keep = ended_keep
        self._dead_places = dead_places
        self._held: list[str] = []
        self._too_large: set[date] = set()
        self._to_drop: set[date] = set()

    async def run(self, stopping: Stopping, metrics: FlusherMetrics) -> None:
        """Looks again and again, until asked to stop."""
        looking, dropping = Interval(_LOOK_SECONDS), Interval(_DROP_SECONDS)

        async def turn() -> None:
            await self.fold()
            if looking.ended():
                await self._tell(metrics)
                await self.note_dead_letters()
                await self.close()
            if dropping.ended():
                await self.drop()

        failure_log = FailureLog(
            "adding up counts has to wait",
            "counts are added up again",
            "nothing for a while, since the views are exact without it; see that PostgreSQL is up",
        )
        # Whatever is wrong with PostgreSQL: no reason to end a flusher.
        passing = (Retry, DeadLetter, Misconfigured)
        await repeat(turn, stopping, _PAUSE_SECONDS, trouble=failure_log, passing=passing)

    async def run_once(self) -> Done:
        """All of it once, whatever may be due.

        Raises:
            Retry: PostgreSQL or Redis is away or busy.
        """
        await self.fold()
        await self.note_dead_letters()
        return Done(await self.close(), await self.drop())

    async def fold(self) -> None:
        """Adds up what batches have changed.

        Raises:
            Retry: PostgreSQL is away or busy.
        """
        async with self._database.connection() as connection, connection.transaction():
            if await locks.try_to_take(connection, Lock.FOLD):
                await connection.execute(statement("fold_counts"))

    async def note_dead_letters(self) -> None:
        """Writes down where dead letters are of, for those who read the counts.

        Raises:
            Retry: PostgreSQL or Redis is away or busy.
        """
        if self._dead_places is None:
            return
        found = [(*place, count) for place, count in (await self._dead_places()).items() if count]
        months = [month.first_day for month, _, _ in found]
        sites, counts = [site for _, site, _ in found], [count for _, _, count in found]
        async with self._database.connection() as connection, connection.transaction():
            if await locks.try_to_take(connection, Lock.DEAD_LETTERS):
                await connection.execute(statement("forget_dead_letters"))
                await connection.execute(statement("note_dead_letters"), months, sites, counts)

    async def close(self) -> tuple[date, ...]:
        """Closes months that are over, and of which nothing is on its way; which. And closed ones
        again for which something came all the same.

        Raises:
            Retry: PostgreSQL is away or busy; or whether anything waits in Redis is not known.
        """
        async with self._database.connection() as connection:
            rows = await connection.fetch(statement("months_to_close"), GRACE, self._ended_keep)
            if not rows:
                return ()
            # Before the streams, into which one may be replayed meanwhile.
            held = await self._held_by_dead_letters([row["month"] for row in rows])
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
            return await _in_short_turns(
                connection, _CLOSE_WAITS, "close_month", month, self._ended_keep
            )
        except asyncpg.QueryCanceledError:  # by statement_timeout
            # Not again and again: batches wait meanwhile.
            self._too_large.add(month)
            log.warning(
                "closing a month took too long, and is left alone until the next start",
                month=str(month),
                to_do=f"psql -c \"SELECT flusher.close_month('{month}', '{self._ended_keep}')\" "
                "as the owner, when batches may wait in Redis for longer",
            )
            return False

    async def _held_by_dead_letters(self, months: list[date]) -> set[date]:
        if self._dead_places is None:
            return set()
        held = {month.first_day for month, _ in await self._dead_places()}.intersection(months)
        names = sorted(map(str, held))
        if names and names != self._held:
            log.warning(
                "months can't be closed: dead letters belong to them",
                months=names,
                to_do="python -m flusher dead list; replay or drop them",
            )
        self._held = names
        return held

    async def drop(self) -> tuple[date, ...]:
        """Drops the sessions of months that an earlier call has named; which. Names the next.

        Raises:
            Retry: PostgreSQL is away or busy.
        """
        if not self._kept_months:
            return ()
        async with self._database.connection() as connection:
            rows = await connection.fetch(statement("months_to_drop"), self._kept_months)
            months = {row["month"] for row in rows}
            dropped = tuple(
                [
                    month
                    for month in sorted(months & self._to_drop)
                    if await _in_short_turns(connection, _DROP_WAITS, "drop_month", month)
                ]
            )
        self._to_drop = months - set(dropped)
        if dropped:
            log.info("sessions were dropped; their counts stay", months=list(map(str, dropped)))
        if self._to_drop:
            log.warning(
                "sessions will be dropped at the next check",
                months=sorted(map(str, self._to_drop)),
                seconds=_DROP_SECONDS,
                to_do="nothing, or set SESSIONS_KEPT_MONTHS higher before that",
            )
        return dropped

    async def _tell(self, metrics: FlusherMetrics) -> None:
        async with self._database.connection() as connection:
            held_at = await connection.fetchval(statement("last_check"))
        metrics.counts_checked.set(held_at)


async def _in_short_turns(
    connection: asyncpg.Connection, lock_timeout: str, name: str, *arguments: object
) -> bool:
    """Runs a statement that takes a lock which bars all batches, without making them wait for it:
    whoever holds it up is waited for in short turns.
    """

    async def turn() -> bool:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{lock_timeout}'")
            return bool(await connection.fetchval(statement(name), *arguments))

    try:
        return await retry(turn, asyncpg.LockNotAvailableError, _TURNS, within=_TURNS_SECONDS)
    except asyncpg.LockNotAvailableError:
        return False
