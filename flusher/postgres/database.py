"""A connection to PostgreSQL, and which of our errors its errors become."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from contract.errors import DeadLetter, Misconfigured, Retry, TimedOut
from flusher.postgres.connection_files import file_in_the_way
from flusher.postgres.pooler import refuse_lent_connections

CONNECT_SECONDS: Final = 10.0
# For each of several hosts: one may never answer, and the next must be tried soon.
_CONNECT_ONE_OF_SECONDS: Final = 3.0
_EXAMPLE: Final = "DATABASE_URL=postgresql://impact@localhost/impact"

# Without "$user": a schema with the name of the role would come first.
SEARCH_PATH: Final = "public, pg_temp"

_LOCK_SECONDS: Final = 30.0

# Set by statements, because a pooler refuses most of them in the connection's options.
_SESSION_SETTINGS: Final = {
    "application_name": "impact-tracking flusher",
    "search_path": SEARCH_PATH,
    # All waiting and holding has an end, also if a process is frozen.
    "lock_timeout": f"{_LOCK_SECONDS:.0f}s",
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "timezone": "UTC",
    # Rows are only found by key. The statistics may be wrong: of a table that is being filled, or
    # that was empty when the plan was made.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

# The row is at fault, and every try fails. All other errors are the server's, and pass.
_REFUSALS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
# The server is away, ends the work, or has closed an idle connection. asyncpg may only notice the
# latter at the next use (InternalClientError).
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
# What asyncpg does not know in a DSN, it passes on as a setting of the server.
_UNKNOWN_OPTION = (
    asyncpg.UndefinedObjectError,
    asyncpg.InvalidParameterValueError,
    asyncpg.CantChangeRuntimeParamError,
)
# All other OSErrors come from files.
_NETWORK_ERRORS = (ConnectionError, TimeoutError, socket.gaierror)


async def connect(dsn: str, patience_seconds: float | None = None) -> asyncpg.Connection:
    """A connection with this project's session settings.

    Args:
        dsn: of the server. Of several hosts, the first that takes writes is used, unless the DSN
            has `target_session_attrs`.
        patience_seconds: how long a statement may take, on the server and in the network. If this
            process is frozen or cut off, the server ends its transaction after this time, with its
            locks. None: no limit, but a lock is waited for at most 30 s.

    Raises:
        Misconfigured: the DSN, an option, the user, password or database is wrong, a file that is
            needed to connect can't be read, or a pooler lends the connection to others.
        Retry: the server is away.
    """
    try:
        return await _connect(dsn, patience_seconds)
    except (*_CONFIGURATION, *_UNKNOWN_OPTION) as error:
        raise _misconfigured(dsn, _first_line(error)) from None
    except ssl.SSLError as error:  # a ValueError, too
        detail = f"PostgreSQL's TLS certificate is not trusted: {_first_line(error)}"
        raise Retry("postgres_away", detail) from None
    except ValueError:
        # Its text is left out: it quotes what it takes for a port, and that may be a password.
        problem = "can't be read; are the special characters of its password percent-encoded?"
        raise _misconfigured(dsn, problem) from None
    except _FAULTS as error:
        if isinstance(error, OSError) and not isinstance(error, _NETWORK_ERRORS):
            file = file_in_the_way(dsn)
            if file is not None:
                raise _misconfigured(dsn, file) from None
        raise Retry("postgres_away", f"PostgreSQL can't be reached: {_first_line(error)}") from None


def _misconfigured(dsn: str, problem: str) -> Misconfigured:
    """The problem, or a file that can't be read, which then is the cause."""
    return Misconfigured("DATABASE_URL", file_in_the_way(dsn) or problem, _EXAMPLE)


async def _connect(dsn: str, patience_seconds: float | None) -> asyncpg.Connection:
    *others, last = one_for_each_host(dsn)
    seconds = _CONNECT_ONE_OF_SECONDS if others else CONNECT_SECONDS
    for host in others:
        try:
            return await _connect_host(host, seconds, patience_seconds)
        except _CONFIGURATION:
            raise
        except _FAULTS:
            continue
    return await _connect_host(last, seconds, patience_seconds)


async def _connect_host(
    dsn: str, seconds: float, patience_seconds: float | None
) -> asyncpg.Connection:
    connection = await asyncpg.connect(
        dsn,
        timeout=seconds,
        # The server's own limit comes first, with a better error.
        command_timeout=None if patience_seconds is None else patience_seconds * 1.2,
    )
    try:
        async with asyncio.timeout(CONNECT_SECONDS):  # a pooler may have none left
            another = partial(asyncpg.connect, dsn, timeout=seconds)
            await refuse_lent_connections(connection, another)
            settings = _SESSION_SETTINGS | _bounds(patience_seconds)
            await connection.executemany("SELECT set_config($1, $2, false)", settings.items())
    except BaseException:
        connection.terminate()
        raise
    return connection


def one_for_each_host(dsn: str) -> list[str]:
    """A DSN for each host of a DSN, which only accepts the host if it takes writes.

    asyncpg accepts several hosts, too. But they share one time limit, which a single host may use
    up.
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
    """A connection that is made at its first use, and again after an error."""

    def __init__(self, dsn: str, patience_seconds: float | None = None) -> None:
        """As `connect`."""
        self._dsn = dsn
        self._patience_seconds = patience_seconds
        self._connection: asyncpg.Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
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
            DeadLetter: the server will always refuse these rows.
            TimedOut: a statement took longer than `patience_seconds`; nothing was stored.
            Retry: the server is away, or ended the work. Nothing was stored, unless the answer to a
                commit was lost; so the work must be safe to repeat.
            Misconfigured: the database is not migrated, or a right is missing.
        """
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._dsn, self._patience_seconds)
        try:
            yield self._connection
        except _REFUSALS as error:
            raise DeadLetter(f"sqlstate_{error.sqlstate}", type(error).__name__) from None
        except _CONFIGURATION as error:
            self._drop()
            problem = f"{_first_line(error)}; {_advice(error)}"
            raise Misconfigured("DATABASE_URL", problem, _EXAMPLE) from None
        except asyncpg.QueryCanceledError as error:  # by statement_timeout
            self._drop()
            raise TimedOut("postgres", f"PostgreSQL failed: {_first_line(error)}") from None
        except _FAULTS as error:
            self._drop()
            raise Retry("postgres", f"PostgreSQL failed: {_first_line(error)}") from None
        except BaseException:
            # Perhaps cancelled within a statement: the connection's state is unknown.
            self._drop()
            raise

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _advice(error: asyncpg.PostgresError) -> str:
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return "to read, run `GRANT impact_reader TO` its role; to write, give it impact_flusher"
    return "has `python -m flusher migrate` been run there?"


def _bounds(patience_seconds: float | None) -> dict[str, str]:
    if patience_seconds is None:
        return {}
    patience = f"{patience_seconds * 1000:.0f}"
    return {
        "statement_timeout": patience,
        "idle_in_transaction_session_timeout": patience,
        # Less, so that waiting for a lock differs from taking too long.
        "lock_timeout": f"{min(patience_seconds * 2 / 3, _LOCK_SECONDS) * 1000:.0f}",
    }


def _first_line(error: BaseException) -> str:
    if type(error) is asyncpg.InternalClientError:
        # The server's last message has arrived and the end of the connection has not, for example
        # after this process was frozen. asyncpg's text then is about its internal states.
        return "it has ended the connection"
    # The other lines (DETAIL, CONTEXT) may quote rows.
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
