"""`python -m flusher check`: compares the kept counts with the sessions, and corrects them."""

from datetime import date
from typing import Final

import asyncpg

from contract.calendar import Month
from flusher.postgres import locks
from flusher.postgres.database import Database
from flusher.postgres.locks import Lock
from flusher.postgres.statements import statement

_WORDS: Final = {
    "visitor_sessions": "visitor sessions",
    "signed_in_sessions": "signed-in sessions",
    "unique_users": "users",
    "unique_signed_in_users": "signed-in users",
    "unique_visitors": "visitors",
}


async def check_counts(
    database: Database, month: Month | None = None, *, repair: bool = False
) -> list[str]:
    """Compares the counts of one month, or of all, with the sessions; a sentence per difference.

    Batches go on meanwhile. With `repair` they wait while the counts of a month are corrected.

    Raises:
        Retry: PostgreSQL is away or busy.
        Misconfigured: the database is not migrated.
    """
    found: list[str] = []
    right = True
    async with database.connection() as connection:
        for row in await connection.fetch(statement("months")):
            if row["is_dropped"] or (month is not None and row["month"] != month.first_day):
                continue
            differences = await _differences(connection, row["month"])
            found += differences
            if differences and repair:
                async with connection.transaction():
                    await locks.take(connection, Lock.SESSIONS)
                    await add_missing_counts(connection, row["month"])
                differences = await _differences(connection, row["month"])
            right = right and not differences
        if right and month is None:
            await connection.execute(statement("note_check"))
    return found


async def add_missing_counts(connection: asyncpg.Connection, month: date) -> None:
    """Corrects the counts of a month, in a transaction that has `Lock.SESSIONS` alone: otherwise
    the changes of a batch would be added twice.
    """
    add = "INSERT INTO flusher.count_changes SELECT * FROM flusher.missing_counts($1)"
    await connection.execute(add, month)


async def _differences(connection: asyncpg.Connection, month: date) -> list[str]:
    found = []
    async with connection.transaction():
        # Locked first: closing a month truncates it, and an older snapshot then sees it empty.
        await connection.execute("LOCK TABLE sessions IN ACCESS SHARE MODE")
        query = "SELECT * FROM flusher.missing_counts($1) ORDER BY site, whole_month DESC, day"
        rows = await connection.fetch(query, month)
    for row in rows:
        place = f"{row['site']}, {format(month, '%Y-%m') if row['whole_month'] else row['day']}"
        for name, words in _WORDS.items():
            missing = row[name]
            if missing:
                how = "too few" if missing > 0 else "too many"
                found.append(f"{place}: {abs(missing):,} {words} {how}")
    return found
