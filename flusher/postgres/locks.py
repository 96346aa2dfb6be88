"""The locks by which all who write take turns. Each is held until the transaction ends."""

from enum import StrEnum

import asyncpg

from flusher.postgres.statements import statement


class Lock(StrEnum):
    """What may be done by one at a time."""

    SESSIONS = "flusher.sessions"
    """Batches that are copied share it. Who has it alone knows that no batch is under way. A batch
    that is merged does: of two that wait for each other, one for the other's rows and one for
    `UPGRADES`, PostgreSQL would end one, after a second.
    """
    UPGRADES = "flusher.upgrades"
    """Of a session and its upgrade that two flushers store at the same moment, the second to come
    here sees the first.
    """
    IMPORTS = "flusher.imports"
    """One stores or takes back sessions of the earlier system: who looks whether a session is there
    sees what the one before has done. Taken before the others.
    """
    FOLD = "flusher.fold"
    """One adds up what batches have changed in the counts."""
    DEAD_LETTERS = "flusher.dead_letters"
    """One writes down how many there are."""
    MIGRATE = "impact-tracking migrate"
    """One changes the schema."""


async def take(connection: asyncpg.Connection, lock: Lock) -> None:
    """Waits for it."""
    await connection.execute(statement("take_lock"), lock)


async def share(connection: asyncpg.Connection, lock: Lock) -> None:
    """Waits until no one holds it exclusively."""
    await connection.execute(statement("share_lock"), lock)


async def try_to_take(connection: asyncpg.Connection, lock: Lock) -> bool:
    """Takes it unless somebody else has it; whether it did."""
    return bool(await connection.fetchval(statement("try_lock"), lock))
