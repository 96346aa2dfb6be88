"""The advisory locks of all writers. Each is held until the transaction ends."""

from enum import StrEnum

import asyncpg


class Lock(StrEnum):
    """The name of each lock."""

    SESSIONS = "flusher.sessions"
    """Batches that only copy share it. A transaction that has it alone knows that no batch
    is under way. Of two batches that merge, each could wait for rows of the other, and PostgreSQL
    would end one. So a batch that merges takes it alone.
    """
    UPGRADES = "flusher.upgrades"
    """If one flusher stores a session and another its upgrade, the second one sees the first one's
    rows.
    """
    IMPORTS = "flusher.imports"
    """One import or undo at a time, so that it sees the sessions of the others. Taken first."""
    FOLD = "flusher.fold"
    """One process at a time adds up the changes of the counts."""
    DEAD_LETTERS = "flusher.dead_letters"
    """One process at a time notes how many there are."""
    MIGRATE = "impact-tracking migrate"


async def take(connection: asyncpg.Connection, lock: Lock) -> None:
    """Waits until it is free, and takes it alone."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", lock)


async def share(connection: asyncpg.Connection, lock: Lock) -> None:
    """Waits until no transaction has it alone, and shares it."""
    await connection.execute("SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))", lock)


async def try_to_take(connection: asyncpg.Connection, lock: Lock) -> bool:
    """Takes it alone if it is free; returns whether it was."""
    query = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))"
    return bool(await connection.fetchval(query, lock))
