"""One way to connect to Redis or Valkey."""

import re
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Protocol
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry as ClientRetry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MaxConnectionsError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from contract.errors import Misconfigured, Retry
from contract.settings import REDIS_URL

CONNECT_SECONDS = 2.0
# Longer than any command of ours takes; none of them blocks on the server.
COMMAND_SECONDS = 5.0

# Answers of a server that is not, or not yet, the one that takes writes. Where its address leads to
# may have changed meanwhile, which only a new connection finds out.
DEMOTED = (ReadOnlyError, MasterDownError, BusyLoadingError)
_PASSING = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    TryAgainError,
)
# Answers of a server that is starting, failing over or was demoted: they pass.
_PASSING_PREFIXES = ("BUSY ", "NOREPLICAS")


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Locator(Protocol):
    """Knows which server to connect to, if that can change."""

    async def find(self) -> Address:
        """The server's address now.

        Raises:
            RedisError: no server that could know it answers.
        """
        ...

    def known(self) -> Address | None:
        """The last known address; None: it has to be found."""
        ...

    def lost(self, error: RedisError) -> None:
        """Marks the known address as doubtful: the server does not answer, or is the wrong one."""
        ...


class _OnUvloop(AbstractConnection):
    """A connection that recognises a lost connection, and a server that accepts no writes.

    If the other side has closed the socket, asyncio's own transport raises ConnectionError, but
    uvloop's raises RuntimeError, which redis-py passes on as if it were a bug.
    """

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        try:
            await super().send_packed_command(*arguments, **options)
        except RuntimeError as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError("the connection was closed") from error

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*arguments, **options)
        except DEMOTED as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError("the server does not take writes") from error

    async def disconnect(self, *arguments: Any, **options: Any) -> None:
        with suppress(RuntimeError):
            await super().disconnect(*arguments, **options)


class _Following(_OnUvloop):
    """A connection to the server that the locator finds; it is closed if that changes."""

    locator: ClassVar[Locator]
    host: str
    port: int

    async def connect_check_health(self, *arguments: Any, **options: Any) -> None:
        if self.is_connected and self.locator.known() != (self.host, self.port):
            await self.disconnect(nowait=True)
        try:
            if not self.is_connected:
                self.host, self.port = await self.locator.find()
            await super().connect_check_health(*arguments, **options)
        except RedisError as error:
            self.locator.lost(error)
            raise

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*arguments, **options)
        except (AskError, ClusterDownError, RedisConnectionError, RedisTimeoutError) as error:
            self.locator.lost(error)
            await self.disconnect(nowait=True)
            raise RedisConnectionError("another server has it") from error


def connect_redis(url: str, setting: str = REDIS_URL.name, locator: Locator | None = None) -> Redis:
    """A client that connects on its first command and never repeats a command by itself.

    Only the caller knows whether a command may be repeated. Replies are bytes.

    Args:
        url: of the server.
        setting: the setting that has the URL, for the error.
        locator: finds the server each time that a connection is made; everything else (encryption,
            credentials) comes from the URL.

    Raises:
        Misconfigured: the URL has an invalid port, database or option.
    """
    # A Unix socket has nothing to keep alive, and redis-py's class for it knows no such option.
    of_tcp = {} if urlsplit(url).scheme == "unix" else {"socket_keepalive": True}
    try:
        pool = ConnectionPool.from_url(
            url,
            decode_responses=False,
            retry=ClientRetry(NoBackoff(), 0),
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=COMMAND_SECONDS,
            **of_tcp,
            health_check_interval=0,
        )
    except (ValueError, TypeError):
        problem = "has a port, database or option that is none"
        raise Misconfigured(setting, problem, f"{setting}=redis://localhost:6379/0") from None
    authorities = pool.connection_kwargs.get("ssl_ca_certs")
    if authorities and not Path(authorities).is_file():
        problem = f"ssl_ca_certs names no file that is there: {authorities}"
        example = f"{setting}=rediss://cache.internal:6379/0?ssl_ca_certs=/etc/ssl/redis-ca.pem"
        raise Misconfigured(setting, problem, example)
    # By TCP, TLS or a Unix socket: the URL has chosen the class.
    if locator is None:
        bases, attributes = (_OnUvloop, pool.connection_class), {}
    else:
        bases, attributes = (_Following, pool.connection_class), {"locator": locator}
    pool.connection_class = type("Connection", bases, attributes)
    return Redis.from_pool(pool)


def connect_peer(url: str, host: str, port: int) -> Redis:
    """A client of a replica or another node, with the URL's credentials and encryption."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return connect_redis(f"redis://{host}:{port}/0")
    credentials, at, _ = parts.netloc.rpartition("@")
    return connect_redis(
        urlunsplit(parts._replace(netloc=f"{credentials}{at}{Address(host, port)}"))
    )


def server_name(redis: Redis) -> str:
    """The address of a client's server, for people."""
    pool = redis.connection_pool
    if issubclass(pool.connection_class, _Following):
        known = pool.connection_class.locator.known()
        return "unknown" if known is None else str(known)
    options = pool.connection_kwargs
    return options.get("path") or str(Address(options["host"], options["port"]))


def is_passing(error: RedisError) -> bool:
    """Whether the server is away, starting, failing over or slow, so that it may work later."""
    if isinstance(error, (MaxConnectionsError, AuthenticationError)):
        return False
    if isinstance(error, _PASSING):
        return True
    return isinstance(error, ResponseError) and str(error).startswith(_PASSING_PREFIXES)


# An error of the server begins with its code. What it quotes, it quotes after a space; and where it
# has no better code than ERR, other things may follow a colon or a bracket.
_CODE: Final = re.compile(r"[A-Z]{2,}\b")
_MAY_QUOTE: Final = re.compile(r"\s['\"`]|[\r\n]")
_MAY_QUOTE_AFTER_ERR: Final = re.compile(r"['\"`:(\r\n]")
_LONGEST_WORDS: Final = 120


def server_words(error: RedisError) -> str:
    """The server's error: its code and first words, up to where it may quote a command.

    `NOPERM this user has no permissions to run the`. If the error comes from the client (no
    connection, no answer), it is the name of its type.
    """
    # The client library takes known codes off the text, and keeps them as `status_code`.
    text = f"{error.status_code} {error}" if error.status_code else str(error)
    code = _CODE.match(text)
    if code is None:
        return type(error).__name__
    end = (_MAY_QUOTE_AFTER_ERR if code.group() == "ERR" else _MAY_QUOTE).search(text)
    return text[: min(end.start() if end else len(text), _LONGEST_WORDS)].strip()


def retry_for(error: RedisError, doing: str) -> Retry:
    """A Retry for an error of Redis, with a text that does not quote the command."""
    if isinstance(error, OutOfMemoryError) or str(error).startswith("OOM"):
        said = server_words(error)
        return Retry("redis_full", f"{doing}: Redis has reached its maxmemory ({said})")
    if isinstance(error.__cause__ or error.__context__, ssl.SSLError):
        return Retry("redis_away", f"{doing}: Redis's TLS certificate is not trusted")
    if is_passing(error):
        return Retry("redis_away", f"{doing}: Redis does not answer ({server_words(error)})")
    if isinstance(error, (AskError, ClusterCrossSlotError)):
        return Retry("redis_refused", f"{doing}: this is a Redis Cluster: set REDIS_CLUSTER=1")
    return Retry("redis_refused", f"{doing}: Redis refuses the command ({server_words(error)})")
