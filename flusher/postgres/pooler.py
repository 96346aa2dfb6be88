"""Whether a pooler lends a connection to other clients between transactions.

A flusher needs a connection of its own, for its settings and prepared statements. A pooler that
gives each transaction another server process (pgbouncer's `pool_mode = transaction`) loses them. A
pooler that keeps a process for each client (`session`) does no harm.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg

from contract.errors import Misconfigured

# A free server process is lent to the next client: so another client of ours may get this one's. If
# there are many clients, this may need several tries.
_ROUNDS: Final = 3
# Busy clients take the process between two of our statements. Then we get another one.
_STATEMENTS_A_ROUND: Final = 20
# If each client has a process of its own, there may be none left for another client.
_ANOTHER_CLIENT_SECONDS: Final = 1.0
# Our prepared statements are gone, or those of others are there.
_OTHERS_STATEMENTS: Final = (
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.InvalidSQLStatementNameError,
)


async def refuse_lent_connections(
    connection: asyncpg.Connection, connect: Callable[[], Awaitable[asyncpg.Connection]]
) -> None:
    """Checks that a connection keeps its server process, before any setting is changed on it.

    Args:
        connection: a new one.
        connect: makes another one with the same DSN.

    Raises:
        Misconfigured: the process is lent to others between two transactions.
    """
    if not await _is_lent(connection, connect):
        return
    problem = (
        "leads through a pooler that lends its connections by transaction or statement; flushers "
        "and their commands need connections of their own: set pool_mode = session and "
        "server_reset_query = DISCARD ALL there, or name PostgreSQL itself"
    )
    example = "DATABASE_URL=postgresql://impact@db.internal:5432/impact"
    raise Misconfigured("DATABASE_URL", problem, example)


async def _is_lent(
    connection: asyncpg.Connection, connect: Callable[[], Awaitable[asyncpg.Connection]]
) -> bool:
    """Whether another client gets the same process, or this client another one."""
    try:
        own = await _server_process(connection)
        # Without a pooler, it is the process that the server named when we connected.
        if own == connection.get_server_pid():
            return False
        for _ in range(_ROUNDS):
            if own == await _process_of_another(connect):
                return True
            for _ in range(_STATEMENTS_A_ROUND):
                if own != await _server_process(connection):
                    return True
    except _OTHERS_STATEMENTS:
        return True
    return False


async def _process_of_another(
    connect: Callable[[], Awaitable[asyncpg.Connection]],
) -> int | None:
    """The server process that another client gets; None: none was left for it."""
    another: asyncpg.Connection | None = None
    try:
        async with asyncio.timeout(_ANOTHER_CLIENT_SECONDS):
            another = await connect()
            return await _server_process(another)
    except _OTHERS_STATEMENTS:
        raise
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None
    finally:
        if another is not None:
            another.terminate()


async def _server_process(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT pg_backend_pid()"))
