"""Counts made again from the sessions: by what they fall short of them.

In one transaction. Its first statements wait for whoever is about to change the same counts and bar
the next, and what is read after that is read in a newer snapshot. So a session that it does not see
is of a transaction that marks the month again, after this one: docs/decisions/0006-kept-counts.md.
"""

from datetime import date

import asyncpg

from flusher.postgres.statements import statement


async def recount_marked(connection: asyncpg.Connection, month: date, *, is_open: bool) -> None:
    """Counts the sites of a month that are marked, and takes their marks."""
    async with connection.transaction():
        await _lock(connection, is_open=is_open)
        rows = await connection.fetch(statement("lock_recounts"), month)
        sites = [row["site"] for row in rows]
        await connection.execute(statement("delete_recounts"), month, sites)
        await _add_missing(connection, month, sites, is_open=is_open)


async def recount_all(connection: asyncpg.Connection, month: date, *, is_open: bool) -> None:
    """Counts all sites of a month, and leaves the marks to `recount_marked`."""
    async with connection.transaction():
        await _lock(connection, is_open=is_open)
        await _add_missing(connection, month, None, is_open=is_open)


async def _lock(connection: asyncpg.Connection, *, is_open: bool) -> None:
    if is_open:
        await connection.execute(statement("lock_sessions"))
    await connection.execute(statement("lock_counts"))


async def _add_missing(
    connection: asyncpg.Connection, month: date, sites: list[str] | None, *, is_open: bool
) -> None:
    if is_open:
        await connection.execute(statement("add_missing_people"), month, sites)
        await connection.execute(statement("forget_who_is_gone"), month)
    await connection.execute(statement("add_missing_counts"), month, sites)
