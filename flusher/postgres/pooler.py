"""Whether a pooler lends a connection to others between transactions.

Settings, prepared statements and what a month is counted under live as long as a connection does. A
pooler that gives each transaction another server process (pgbouncer's `pool_mode = transaction`)
takes them away, and hands ours to other clients. One that keeps a process for each client
(`session`) does no harm.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg

from contract.errors import Misconfigured
from flusher.postgres.statements import statement

# A process that is free is lent to whoever asks next: another client, if it is there. Among many
# clients one may miss it, not each time.
_ROUNDS: Final = 3
# Busy clients take the process between two of our statements, so this one gets another.
_STATEMENTS_A_ROUND: Final = 20
# Where each client has a process for itself, there may be none left for another.
_ANOTHER_CLIENT_SECONDS: Final = 1.0
# Statements that we have prepared are gone, or others' are there.
_OTHERS_STATEMENTS: Final = (
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.InvalidSQLStatementNameError,
)


async def refuse_lent_connections(
    connection: asyncpg.Connection, connect: Callable[[], Awaitable[asyncpg.Connection]]
) -> None:
    """Looks whether the server process is this connection's own. Nothing is set on it before.

    Args:
        connection: a new one.
        connect: makes another to the same place.

    Raises:
        Misconfigured: it is lent to others between two transactions.
    """
    if not await _is_lent(connection, connect):
        return
    problem = (
        "leads through a pooler that lends its connections by transaction or statement; flushers "
        "and their commands need them for themselves: set pool_mode = session and "
        "server_reset_query = DISCARD ALL there, or name PostgreSQL itself"
    )
    example = "DATABASE_URL=postgresql://impact@db.internal:5432/impact"
    raise Misconfigured("DATABASE_URL", problem, example)


async def _is_lent(
    connection: asyncpg.Connection, connect: Callable[[], Awaitable[asyncpg.Connection]]
) -> bool:
    """Whether another client gets the same process, or this one another."""
    try:
        own = await _server_process(connection)
        # Without a pooler it is the one that the server named when it was connected to.
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
    """The server process that another client gets; None: there is none left for it."""
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
    return int(await connection.fetchval(statement("server_process")))
