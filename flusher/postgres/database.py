"""One connection to PostgreSQL, and what its errors ask for."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from contract.errors import DeadLetter, Misconfigured, Retry, TimedOut
from flusher.postgres.connection_files import file_in_the_way
from flusher.postgres.pooler import refuse_lent_connections
from flusher.postgres.statements import statement

CONNECT_SECONDS: Final = 10.0
# Of several hosts one may swallow what it is sent: the next is tried well before a claim.
_CONNECT_ONE_OF_SECONDS: Final = 3.0
_EXAMPLE: Final = "DATABASE_URL=postgresql://impact@localhost/impact"

# Whoever a role is named after: its own schema would come first ("$user").
SEARCH_PATH: Final = "public, pg_temp"

_LOCK_SECONDS: Final = 30.0

# By SET, since a pooler refuses most of them while connecting.
_SESSION_SETTINGS: Final = {
    "application_name": "impact-tracking flusher",
    "search_path": SEARCH_PATH,
    # Nothing is waited for without an end, and nothing held: a process may be frozen.
    "lock_timeout": f"{_LOCK_SECONDS:.0f}s",
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "timezone": "UTC",
    # Rows are looked up by their keys, a few at a time as far as a plan goes, whatever the
    # statistics say of a table that is being filled, or that was empty when the plan was made.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

# The row's own fault, whoever tries to store it. Everything else is the server's, and passes.
_REFUSALS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
# A server that is away or ends the work, and a connection that it ended while nothing was asked of
# it, which asyncpg may notice only at its next use (InternalClientError).
_FAULTS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_CONFIGURATION = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedTableError,
    asyncpg.InvalidSchemaNameError,
)
# Of OSErrors; the others come from files.
_OF_THE_NETWORK = (ConnectionError, TimeoutError, socket.gaierror)


async def connect(dsn: str, patience_seconds: float | None = None) -> asyncpg.Connection:
    """A connection with this project's session settings.

    Args:
        dsn: where to. Of several hosts the first that takes writes, unless it has a
            `target_session_attrs`.
        patience_seconds: how long a statement may take, on the server and on the wire. It also
            bounds what a process that is frozen or cut off may hold up: the server ends its
            transaction, with its locks, and the others go on. None: for as long as it takes; but
            no lock is waited for longer than 30 s.

    Raises:
        Misconfigured: the DSN, user, password or database is wrong, a file that it takes to connect
            can't be read, or a pooler lends the connection to others.
        Retry: the server is away.
    """
    try:
        return await _connect(dsn, patience_seconds)
    except _CONFIGURATION as error:
        raise _misconfigured(dsn, _first_line(error)) from None
    except ssl.SSLError as error:  # a ValueError, too
        detail = f"PostgreSQL's TLS certificate is not trusted: {_first_line(error)}"
        raise Retry("postgres_away", detail) from None
    except ValueError:
        # Without its words: they quote what was taken for a port, which may be a password.
        problem = "can't be read; are the special characters of its password percent-encoded?"
        raise _misconfigured(dsn, problem) from None
    except _FAULTS as error:
        if isinstance(error, OSError) and not isinstance(error, _OF_THE_NETWORK):
            file = file_in_the_way(dsn)
            if file is not None:
                raise _misconfigured(dsn, file) from None
        raise Retry("postgres_away", f"PostgreSQL can't be reached: {_first_line(error)}") from None


def _misconfigured(dsn: str, problem: str) -> Misconfigured:
    """The file that is in the way, where there is one: what is said of the rest follows from it."""
    return Misconfigured("DATABASE_URL", file_in_the_way(dsn) or problem, _EXAMPLE)


async def _connect(dsn: str, patience_seconds: float | None) -> asyncpg.Connection:
    hosts = one_for_each_host(dsn)
    several = len(hosts) > 1
    failure: Exception | None = None
    for host in hosts:
        try:
            seconds = _CONNECT_ONE_OF_SECONDS if several else CONNECT_SECONDS
            return await _connect_host(host, seconds, patience_seconds)
        except _FAULTS as error:
            if isinstance(error, _CONFIGURATION) or not several:
                raise
            failure = error
    raise failure or ConnectionError("the DSN names no host")


async def _connect_host(
    dsn: str, seconds: float, patience_seconds: float | None
) -> asyncpg.Connection:
    connection = await asyncpg.connect(
        dsn,
        timeout=seconds,
        # The server's own bound comes first, and tells what happened.
        command_timeout=None if patience_seconds is None else patience_seconds * 1.2,
    )
    try:
        async with asyncio.timeout(CONNECT_SECONDS):  # a pooler may have none to give
            another = partial(asyncpg.connect, dsn, timeout=seconds)
            await refuse_lent_connections(connection, another)
            settings = _SESSION_SETTINGS | _bounds(patience_seconds)
            await connection.fetch(
                statement("configure_session"), list(settings), list(settings.values())
            )
    except BaseException:
        connection.terminate()
        raise
    return connection


def one_for_each_host(dsn: str) -> list[str]:
    """A DSN of several hosts as several DSNs, each for the one of them that takes writes.

    asyncpg takes several, too, but gives all of them together the time that one may use up.
    """
    parts = urlsplit(dsn)
    credentials, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [dsn]
    query = parts.query
    if "target_session_attrs=" not in query:
        query += ("&" if query else "") + "target_session_attrs=read-write"
    return [
        urlunsplit(parts._replace(netloc=f"{credentials}{at}{host}", query=query))
        for host in hosts.split(",")
    ]


class Database:
    """A connection that is made when it is needed, and again after a fault."""

    def __init__(self, dsn: str, patience_seconds: float | None = None) -> None:
        """As `connect`."""
        self._dsn = dsn
        self._patience_seconds = patience_seconds
        self._connection: asyncpg.Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=5)
            except _FAULTS:
                connection.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """The connection, outside of any transaction.

        Raises:
            DeadLetter: the server refuses what was to be stored, whenever it is tried.
            TimedOut: a statement took longer than its patience; nothing of it was stored.
            Retry: the server is away, or ended the work; nothing of it was stored, unless the
                answer to a commit was lost. Whoever repeats it must not mind.
            Misconfigured: the database is not the one that was migrated.
        """
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._dsn, self._patience_seconds)
        try:
            yield self._connection
        except _REFUSALS as error:
            raise DeadLetter(f"sqlstate_{error.sqlstate}", type(error).__name__) from None
        except _CONFIGURATION as error:
            self._drop()
            problem = f"{_first_line(error)}; {_what_to_look_at(error)}"
            raise Misconfigured("DATABASE_URL", problem, _EXAMPLE) from None
        except asyncpg.QueryCanceledError as error:  # by statement_timeout
            self._drop()
            raise TimedOut("postgres", f"PostgreSQL failed: {_first_line(error)}") from None
        except _FAULTS as error:
            self._drop()
            raise Retry("postgres", f"PostgreSQL failed: {_reason(error)}") from None
        except BaseException:
            # Cancelled in mid-protocol: what state the connection is in is unknown.
            self._drop()
            raise

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _what_to_look_at(error: asyncpg.PostgresError) -> str:
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return (
            "who reads needs `GRANT impact_reader TO` its role, who writes impact_flusher's rights"
        )
    return "has `python -m flusher migrate` been run there?"


def _bounds(patience_seconds: float | None) -> dict[str, str]:
    if patience_seconds is None:
        return {}
    patience = f"{patience_seconds * 1000:.0f}"
    return {
        "statement_timeout": patience,
        "idle_in_transaction_session_timeout": patience,
        # Less, so that waiting for a lock can be told apart from taking too long.
        "lock_timeout": f"{min(patience_seconds * 2 / 3, _LOCK_SECONDS) * 1000:.0f}",
    }


def _reason(error: BaseException) -> str:
    if type(error) is asyncpg.InternalClientError:
        # After a freeze a server may end a connection. Its last words have come, the end has not:
        # asyncpg then speaks of states of its own.
        return "it has ended the connection"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    # The rest of a server's message (DETAIL, CONTEXT) quotes rows.
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
