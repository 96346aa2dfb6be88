"""One way to connect to Redis or Valkey."""

import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry as ClientRetry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
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
# Above the time any command of ours takes; none of them blocks on the server.
COMMAND_SECONDS = 5.0

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


class _OnUvloop(AbstractConnection):
    """A connection that tells a lost wire from a fault of ours.

    Where asyncio's own transport raises ConnectionError for a socket that the other side has
    closed meanwhile, uvloop's raises RuntimeError, which redis-py passes on as if it were a bug.
    """

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        try:
            await super().send_packed_command(*arguments, **options)
        except RuntimeError as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError("the connection was closed") from error

    async def disconnect(self, *arguments: Any, **options: Any) -> None:
        with suppress(RuntimeError):
            await super().disconnect(*arguments, **options)


def connect_redis(url: str, setting: str = REDIS_URL.name) -> Redis:
    """A client that connects on its first command and never repeats one by itself.

    Whether a command may be repeated is known only to its caller. Replies are bytes.

    Args:
        url: of the server.
        setting: where the URL comes from, for the error.

    Raises:
        Misconfigured: the URL has a port, database or option that is none.
    """
    try:
        pool = ConnectionPool.from_url(
            url,
            decode_responses=False,
            retry=ClientRetry(NoBackoff(), 0),
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=COMMAND_SECONDS,
            socket_keepalive=True,
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
    pool.connection_class = type("Connection", (_OnUvloop, pool.connection_class), {})
    return Redis.from_pool(pool)


def connect_replica(url: str, host: str, port: int) -> Redis:
    """A client of a replica, with the primary's credentials, database and encryption."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return connect_redis(f"redis://{host}:{port}/0")
    credentials, at, _ = parts.netloc.rpartition("@")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return connect_redis(urlunsplit(parts._replace(netloc=f"{credentials}{at}{address}")))


def is_passing(error: RedisError) -> bool:
    """Whether the server is away, starting, failing over or slow, so that it may work later."""
    if isinstance(error, (MaxConnectionsError, AuthenticationError)):
        return False
    if isinstance(error, _PASSING):
        return True
    return isinstance(error, ResponseError) and str(error).startswith(_PASSING_PREFIXES)


def retry_for(error: RedisError, doing: str) -> Retry:
    """The decision for an error of Redis, in words that do not quote the command."""
    if isinstance(error, OutOfMemoryError) or str(error).startswith("OOM"):
        return Retry("redis_full", f"{doing}: Redis has reached its maxmemory")
    if isinstance(error.__cause__ or error.__context__, ssl.SSLError):
        return Retry("redis_away", f"{doing}: Redis's TLS certificate is not trusted")
    if is_passing(error):
        return Retry("redis_away", f"{doing}: Redis does not answer ({type(error).__name__})")
    return Retry("redis_refused", f"{doing}: Redis refuses the command ({type(error).__name__})")
