"""Keeps the counts that the views read: finished months for good, the current one up to a line.

Beside the worker, on a connection of its own: it takes seconds, and no flush waits for it. Nothing
depends on when it runs: the views are exact at any moment, and slower where it has not been. How
that comes is told in `migrations/0004_kept_counts.sql`.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg
import structlog

from contract.calendar import DAY_US, from_us, month_at
from contract.errors import DeadLetter, Misconfigured, Retry
from flusher.database import Database
from flusher.statements import statement
from process.clock import Clock
from process.outage import Outage
from process.stopping import Stopping

# A month is closed this long after its end. Until then what comes late is added to its counts; from
# then on it makes its site be counted again.
CLOSED_AFTER_US: Final = 3 * DAY_US
# The line stays behind the newest session, so that few sessions come in below it: so long, or so
# many sessions where that is less, which is what a flusher has in hand.
_BEHIND: Final = timedelta(seconds=2)
_BEHIND_SESSIONS: Final = 20_000
# It moves when this many sessions are above it, and at the latest so long after it moved last.
_MANY: Final = 30_000
_MOVES_WITHIN_SECONDS: Final = 600.0
# A closed month that changes is counted again this often, at the most.
_AGAIN_SECONDS: Final = 60.0
# Between two looks, and after one that moved a line, since as many may have come meanwhile; never
# more than two thirds of the time are spent on counting.
_PAUSE_SECONDS: Final = 1.0
_PAUSE_AFTER_MOVE_SECONDS: Final = 0.25
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '200ms'"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Done:
    """What one look came to: months closed or counted again, lines moved, months dropped."""

    closed: tuple[date, ...] = ()
    moved: tuple[date, ...] = ()
    dropped: tuple[date, ...] = ()


@dataclass(frozen=True, slots=True)
class _Month:
    """A month as `months_to_count` tells it."""

    month: date
    closed: bool
    watched_further: bool
    uncounted: int
    changed: bool


class MonthCounter:
    """Counts months, and drops those that are older than what is to be kept."""

    def __init__(self, database: Database, zone: ZoneInfo, kept_months: int = 0) -> None:
        """`kept_months` finished months keep their sessions; 0: all do."""
        self._database = database
        self._zone = zone
        self._kept_months = kept_months
        self._counted_at: dict[date, float] = {}

    async def run(self, clock: Clock, stopping: Stopping) -> None:
        """Looks again and again, until asked to stop."""
        outage = Outage("counting goes on")
        pause = _PAUSE_SECONDS
        while not await stopping.wait(pause):
            started = time.monotonic()
            done = Done()
            try:
                done = await self.run_once(clock())
                outage.works()
            except (Retry, DeadLetter, Misconfigured) as error:
                # The views are exact without it: no reason to end a flusher.
                outage.fails()
                log.warning("counting has to wait", why=str(error))
            pause = _PAUSE_AFTER_MOVE_SECONDS if done.moved else _PAUSE_SECONDS
            pause = max(pause, (time.monotonic() - started) / 2)

    async def run_once(self, now_us: int, *, at_once: bool = False) -> Done:
        """Counts what is due; with `at_once` also what could wait a little.

        Raises:
            Retry: PostgreSQL is away or busy, or somebody else changed the same counts.
        """
        async with self._database.connection() as connection:
            if not await connection.fetchval(statement("try_counting_lock")):
                return Done()
            done = await self._count(connection, now_us, at_once=at_once)
            # Otherwise the connection is dropped, and the lock with it.
            await connection.fetchval(statement("release_counting_lock"))
            return done

    async def _count(self, connection: asyncpg.Connection, now_us: int, *, at_once: bool) -> Done:
        finished_before = month_at(now_us - CLOSED_AFTER_US, self._zone).first_day
        closed: list[date] = []
        moved: list[date] = []
        found = await connection.fetch(statement("months_to_count"), _MANY)
        months = [_Month(**row) for row in found]
        for month in months:
            due = self._is_due(month, finished_before, at_once=at_once)
            if due and (month.closed or month.month < finished_before):
                await self._close(connection, month)
                closed.append(month.month)
                continue
            if due and await self._move(connection, month, now_us):
                moved.append(month.month)
        dropped = await self._drop(connection, now_us, [month.month for month in months])
        if closed or dropped:
            log.info(
                "months counted",
                closed=[str(month) for month in closed],
                dropped=[str(month) for month in dropped],
            )
        return Done(tuple(closed), tuple(moved), tuple(dropped))

    def _is_due(self, month: _Month, finished_before: date, *, at_once: bool) -> bool:
        since = time.monotonic() - self._counted_at.get(month.month, float("-inf"))
        if month.closed:  # for good, though a clock may say that it is not over
            return month.changed and (at_once or since > _AGAIN_SECONDS)
        if month.month < finished_before:
            return True
        if month.uncounted >= _MANY:
            return True
        anything = month.uncounted > 0 or month.changed
        return anything and (at_once or since > _MOVES_WITHIN_SECONDS)

    async def _close(self, connection: asyncpg.Connection, month: _Month) -> None:
        if not month.closed:
            await _watch(connection, "watch_whole_month", month.month)
        await self._in_one_snapshot(connection, "close_month", month.month)
        self._counted_at[month.month] = time.monotonic()

    async def _move(self, connection: asyncpg.Connection, month: _Month, now_us: int) -> bool:
        line = await connection.fetchval(
            statement("next_line"), month.month, from_us(now_us), _BEHIND, _BEHIND_SESSIONS
        )
        if line is not None:
            await _watch(connection, "watch_month", month.month, line)
        elif not month.changed and not month.watched_further:
            return False
        await self._in_one_snapshot(connection, "count_month", month.month)
        self._counted_at[month.month] = time.monotonic()
        return True

    async def _in_one_snapshot(
        self, connection: asyncpg.Connection, name: str, month: date
    ) -> None:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.execute(statement(name), month)

    async def _drop(
        self, connection: asyncpg.Connection, now_us: int, months: list[date]
    ) -> list[date]:
        if not self._kept_months:
            return []
        kept_from = month_at(now_us, self._zone).plus(-self._kept_months).first_day
        dropped = []
        for month in months:
            if month < kept_from:
                async with connection.transaction():
                    await connection.execute(_LOCK_TIMEOUT)
                    if await connection.fetchval(statement("drop_month"), month):
                        dropped.append(month)
        return dropped


async def _watch(connection: asyncpg.Connection, name: str, *arguments: object) -> None:
    """Waits for its lock in short turns: whoever writes has to wait behind it while it waits, and
    may hold up, by the flushers' own lock, who has to end first.
    """
    for pause_seconds in (0.05, 0.1, 0.2, 0.4, 0.8, None):
        try:
            async with connection.transaction():
                await connection.execute(_LOCK_TIMEOUT)
                await connection.execute(statement(name), *arguments)
        except asyncpg.LockNotAvailableError:
            if pause_seconds is None:
                raise
            await asyncio.sleep(pause_seconds)
        else:
            return
