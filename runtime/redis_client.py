"""How to connect to Redis or Valkey, and what its errors mean."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple
from urllib.parse import SplitResult, parse_qs, quote, urlsplit, urlunsplit

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

from contract.errors import Misconfigured, NotAdmitted, Retry
from contract.settings import REDIS_URL

CONNECT_SECONDS = 2.0
# Longer than any command of ours takes; none of them blocks on the server.
COMMAND_SECONDS = 5.0

_DATABASE: Final = re.compile("/?[0-9]*")
# Of a URL, beside TLS's. Of the others, many would change what this program relies on.
_OPTIONS: Final = frozenset(
    ("client_name", "db", "password", "socket_connect_timeout", "socket_timeout", "username")
)

# Answers of a server that does not accept writes, or not yet. The address may lead to another
# server by now, which only a new connection finds.
DEMOTED = (ReadOnlyError, MasterDownError, BusyLoadingError)
_PASSING = (*DEMOTED, RedisConnectionError, RedisTimeoutError, ClusterDownError, TryAgainError)
_PASSING_PREFIXES = ("BUSY ", "NOREPLICAS")


class Address(NamedTuple):
    """Where a server listens. `host` may be the path of a Unix socket, which has port 0."""

    host: str
    port: int

    def __str__(self) -> str:
        if self.host.startswith("/"):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Refusal(AuthenticationError):
    """A server refuses the user, the password or the database of a URL."""

    def __init__(self, error: RedisError, setting: str) -> None:
        """`error`: the server's. `setting`: the name of the setting that has the URL."""
        super().__init__(*error.args, status_code=error.status_code)
        self.setting = setting


@contextmanager
def entering(setting: str) -> Iterator[None]:
    """While a connection sends what the URL of `setting` says, a server's refusal is a Refusal."""
    try:
        yield
    except RedisError as error:
        if is_passing(error):
            raise
        raise Refusal(error, setting) from None


class OnUvloop(AbstractConnection):
    """A connection that closes itself if it is lost, or if the server does not accept writes.

    If the other side has closed the socket, uvloop raises RuntimeError and not ConnectionError as
    asyncio does. redis-py passes that on as if it were a bug.
    """

    setting: ClassVar[str]

    async def on_connect_check_health(self, *arguments: Any, **options: Any) -> None:
        with entering(self.setting):
            await super().on_connect_check_health(*arguments, **options)

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
            raise RedisConnectionError("the server does not accept writes") from error

    async def disconnect(self, *arguments: Any, **options: Any) -> None:
        with suppress(RuntimeError):
            await super().disconnect(*arguments, **options)


def connect_redis(
    url: str, setting: str = REDIS_URL.name, kind: type[OnUvloop] = OnUvloop
) -> Redis:
    """A client that connects on its first command. Replies are bytes.

    It never repeats a command by itself, because only the caller knows whether that is safe.

    Args:
        url: of the server.
        setting: the name of the setting that has the URL, for an error.
        kind: of its connections.

    Raises:
        Misconfigured: the URL has an invalid port, database or option.
    """
    # redis-py's class for a Unix socket does not have this option.
    of_tcp = {} if urlsplit(url).scheme == "unix" else {"socket_keepalive": True}
    try:
        _check_path_and_options(urlsplit(url))
        pool = ConnectionPool.from_url(
            url,
            decode_responses=False,
            retry=ClientRetry(NoBackoff(), 0),
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=COMMAND_SECONDS,
            **of_tcp,
            health_check_interval=0,
        )
        pool.connection_class(**pool.connection_kwargs)  # TypeError: TLS's options without TLS
    except (ValueError, TypeError, RedisError):
        problem = "has an invalid port, database or option"
        raise Misconfigured(setting, problem, f"{setting}=redis://localhost:6379/0") from None
    authorities = pool.connection_kwargs.get("ssl_ca_certs")
    if authorities and not Path(authorities).is_file():
        problem = f"ssl_ca_certs names a file that does not exist: {authorities}"
        example = f"{setting}=rediss://cache.internal:6379/0?ssl_ca_certs=/etc/ssl/redis-ca.pem"
        raise Misconfigured(setting, problem, example)
    # The URL has chosen the pool's class: for TCP, TLS or a Unix socket.
    pool.connection_class = type("Connection", (kind, pool.connection_class), {"setting": setting})
    return Redis.from_pool(pool)


def _check_path_and_options(parts: SplitResult) -> None:
    """Raises ValueError for what redis-py ignores, passes on, or takes in place of our options."""
    if parts.fragment:
        raise ValueError("a # is not percent-encoded")
    if parts.scheme != "unix" and not _DATABASE.fullmatch(parts.path):
        raise ValueError("the database is not a number")
    for option in parse_qs(parts.query, keep_blank_values=True):
        if option not in _OPTIONS and not option.startswith("ssl_"):
            raise ValueError("an option is unknown")


def connect_peer(url: str, host: str, port: int) -> Redis:
    """A client of a replica or another node, with the URL's credentials and encryption."""
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    if host.startswith("/"):
        query = parts.query if parts.scheme == "unix" else ""  # TLS's options do not fit
        return connect_redis(f"unix://{credentials}{at}{quote(host)}?{query}")
    if parts.scheme == "unix":
        parts = parts._replace(scheme="redis", path="")
    return connect_redis(
        urlunsplit(parts._replace(netloc=f"{credentials}{at}{Address(host, port)}"))
    )


def is_passing(error: RedisError) -> bool:
    """Whether the server is away, starting, failing over or slow, so that it may work later."""
    if isinstance(error, (MaxConnectionsError, AuthenticationError)):
        return False
    if isinstance(error, _PASSING):
        return True
    return isinstance(error, ResponseError) and str(error).startswith(_PASSING_PREFIXES)


# An error of the server begins with its code. What it quotes follows a space and a quotation mark,
# or, with the general code ERR, also a colon or a bracket.
_CODE: Final = re.compile(r"[A-Z]{2,}\b")
_MAY_QUOTE: Final = re.compile(r"\s['\"`]|[\r\n]")
_MAY_QUOTE_AFTER_ERR: Final = re.compile(r"['\"`:(\r\n]")
_LONGEST_WORDS: Final = 120


def server_words(error: RedisError) -> str:
    """The code and the first words of a server's error, up to where it may quote a command: `NOPERM
    this user has no permissions to run the`. The type's name if the error is the client's.
    """
    # redis-py removes known codes from the text, and keeps them as `status_code`.
    text = f"{error.status_code} {error}" if error.status_code else str(error)
    code = _CODE.match(text)
    if code is None:
        return type(error).__name__
    end = (_MAY_QUOTE_AFTER_ERR if code.group() == "ERR" else _MAY_QUOTE).search(text)
    return text[: min(end.start() if end else len(text), _LONGEST_WORDS)].strip()


@contextmanager
def as_retry(doing: str) -> Iterator[None]:
    """Raises an error of Redis in the block as `retry_for` has it."""
    try:
        yield
    except RedisError as error:
        raise retry_for(error, doing) from None


def retry_for(error: RedisError, doing: str) -> Retry:
    """A Retry for an error of Redis while `doing` something. It does not quote the command."""
    if isinstance(error, AuthenticationError):
        # NOAUTH is the answer to a command in `runtime.redis_connection`, which is for the streams.
        setting = error.setting if isinstance(error, Refusal) else REDIS_URL.name
        problem = f"the server refuses its user, password or database ({server_words(error)})"
        example = f"{setting}=redis://user:password@localhost:6379/0"
        return NotAdmitted("redis_refused", f"{setting}: {problem} (for example: {example})")
    if isinstance(error, OutOfMemoryError) or str(error).startswith("OOM"):
        said = server_words(error)
        return Retry("redis_full", f"{doing}: Redis has reached its maxmemory ({said})")
    if isinstance(error.__cause__ or error.__context__, ssl.SSLError):
        return Retry("redis_away", f"{doing}: Redis's TLS certificate is not trusted")
    if is_passing(error):
        # What the server said, such as READONLY, if our client has closed the connection for it.
        cause = error.__cause__ if isinstance(error.__cause__, RedisError) else error
        return Retry("redis_away", f"{doing}: Redis does not answer ({server_words(cause)})")
    if isinstance(error, (AskError, ClusterCrossSlotError)):
        return Retry("redis_refused", f"{doing}: this is a Redis Cluster: set REDIS_CLUSTER=1")
    return Retry("redis_refused", f"{doing}: Redis refuses the command ({server_words(error)})")
