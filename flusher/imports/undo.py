"""`python -m flusher import --undo NAME`: deletes the sessions that imports of this name have
stored. Each batch is one transaction. After an interruption, run it again.
"""

import asyncio
import sys
from collections.abc import Iterable
from functools import partial
from typing import Final

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from contract import settings
from contract.errors import Misconfigured, Retry
from contract.setting import Environment
from flusher.postgres import locks
from flusher.postgres.database import Database
from flusher.postgres.locks import Lock
from flusher.postgres.match import session_of
from flusher.postgres.statements import statement
from flusher.postgres.store_counts import store_counts
from flusher.rows.counts import Counts
from runtime.periodic import Backoff, retry

_PAUSES_SECONDS: Final = 4.0
_EXAMPLE: Final = "python -m flusher import --undo sessions.csv"
_BEGINNING: Final = UUID(b"\0" * 16)


async def undo_import(environment: Environment, name: str, *, dry_run: bool) -> int:
    """Takes an import back, and prints how much; 1 if some of it stays in the counts."""
    async with Database(settings.DATABASE_URL.read(environment)) as database:
        async with database.connection() as connection:
            imports = await connection.fetch("SELECT * FROM flusher.imports ORDER BY month, run")
            stored = [row for row in imports if row["name"] == name]
            if not stored:
                raise _unknown(name, imports)
            months = await connection.fetch(statement("months"))
        print(f"{name}: {_described(stored)}", flush=True)
        if dry_run:
            print("nothing was taken back")
            return 0
        missing = {}
        try:
            for row in stored:
                missing[row] = await _take_back(database, row)
        except asyncio.CancelledError:  # Ctrl-C
            print("error: interrupted: run it again for the rest", file=sys.stderr)
            return 1
    print(
        f"taken back: {sum(row['sessions'] - number for row, number in missing.items()):,} sessions"
    )
    dropped = {row["month"] for row in months if row["is_dropped"]}
    for row, number in missing.items():
        if not number:
            continue
        why = "its sessions were dropped (SESSIONS_KEPT_MONTHS), and its counts are final"
        if row["month"] not in dropped:
            why = "they were deleted by something else; see `python -m flusher check`"
        print(f"{row['month']:%Y-%m}: {number:,} were not there: {why}", file=sys.stderr)
    return 1 if any(missing.values()) else 0


def _described(stored: Iterable[asyncpg.Record]) -> str:
    months = sorted({row["month"] for row in stored})
    runs = {row["run"] for row in stored}
    number = sum(row["sessions"] for row in stored)
    span = f"{months[0]:%Y-%m} to {months[-1]:%Y-%m}"
    return f"{number:,} sessions, {span}, runs: {len(runs):,}"


def _unknown(name: str, stored: Iterable[asyncpg.Record]) -> Misconfigured:
    names = sorted({row["name"] for row in stored})
    there = f"there are {', '.join(names)}" if names else "there is none"
    return Misconfigured("--undo", f"no import is called {name!r}; {there}", _EXAMPLE)


async def _take_back(database: Database, stored: asyncpg.Record) -> int:
    """Deletes a run's sessions of a month; returns how many of them were missing."""
    after, missing = _BEGINNING, None
    while missing is None:
        attempt = partial(_take_back_batch, database, stored, after)
        after, missing = await retry(attempt, Retry, Backoff(1, 1), within=_PAUSES_SECONDS)
    return missing


async def _take_back_batch(
    database: Database, stored: asyncpg.Record, after: UUID
) -> tuple[UUID, int | None]:
    """Deletes a batch; returns after which id to go on, and at the end how many were missing.

    At the end, a query from the beginning finds no session, and the same transaction removes the
    run's entry. So a run that is still storing is not missed.
    """
    run, name, month = stored["run"], stored["name"], stored["month"]
    async with database.connection() as connection, connection.transaction():
        await locks.take(connection, Lock.IMPORTS)
        await locks.share(connection, Lock.SESSIONS)
        rows = await connection.fetch(statement("take_back_sessions"), month, run, after)
        if rows:
            counts = Counts()
            for row in rows:
                counts.remove(session_of(row))
            await connection.execute(statement("note_import"), run, name, [month], [-len(rows)])
            await locks.take(connection, Lock.UPGRADES)
            await store_counts(connection, counts.by_month())
            return max(row["id"] for row in rows), None
        if after != _BEGINNING:
            return _BEGINNING, None
        forget = "DELETE FROM flusher.imports WHERE run = $1 AND month = $2 RETURNING sessions"
        return after, await connection.fetchval(forget, run, month) or 0
