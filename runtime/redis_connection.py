"""The client of Redis's protocol: sends packed commands, and returns their replies.

The collector and the flusher use it for every session, because redis-py would cost more than
everything else: it packs each argument and waits for each reply in Python (docs/decisions/0014).
Here hiredis packs and parses, and only the settings and the errors are redis-py's. The protocol is
RESP 2, in which a server sends only replies. All other commands use redis-py's own client.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import hiredis
from redis.asyncio import Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import Connection, DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from contract.settings import REDIS_URL
from runtime.redis_client import DEMOTED, entering

Command = tuple[str | bytes | int, ...]
Take = Callable[[list[Any]], None]

_INCOMPLETE: Final = object()


def pack(*words: str | bytes | int) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub: one word
    return packed


class RedisConnection:
    """A connection to one server. It opens when it is needed, and again after it was lost.

    Any number of exchanges may be under way: replies come in the order of the commands. If the
    connection is lost, all of them fail.
    """

    def __init__(self, redis: Redis) -> None:
        """`redis`: a client whose settings say how to connect; nothing is taken from its pool."""
        self._pool = redis.connection_pool
        self._link: _Link | None = None
        self._connecting: asyncio.Task[_Link] | None = None

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Like `exchange`, for commands that are not packed.

        Raises:
            RedisError: as in `exchange`; or the server does not accept writes (yet).
        """
        packed = b"".join([pack(*command) for command in commands])
        replies = await self.exchange(packed, len(commands))
        for reply in replies:
            if isinstance(reply, DEMOTED):
                raise RedisConnectionError("the server does not accept writes") from reply
        return replies

    async def exchange(self, commands: bytes, count: int, take: Take | None = None) -> list[Any]:
        """Sends commands and returns their replies in order; a refused command's is a RedisError.

        If the server says that it does not accept writes (yet), the next exchange opens another
        connection, because the address may then lead to another server. If an exchange is
        cancelled, its commands may be carried out nevertheless; the others keep their replies.

        Args:
            commands: packed.
            count: the number of commands.
            take: is called with the replies as soon as they arrive, before the waiting task runs.
                It must not raise.

        Raises:
            RedisError: there is no connection, it was lost, or the replies took longer than the
                settings' `socket_timeout`. Any of the commands may have been carried out.
        """
        link = self._link
        if link is None or link.lost:
            link = await self._connect()
        try:
            async with asyncio.timeout(link.patience_seconds):
                return await link.ask(commands, count, take)
        except TimeoutError:
            link.end(RedisConnectionError("another exchange got no reply in time"))
            raise RedisTimeoutError("no reply in time") from None

    def close(self) -> None:
        """Closes the connection at once; the next exchange opens another."""
        self._connecting = None
        if self._link is not None:
            self._link.end(RedisConnectionError("the connection was closed"))
            self._link = None

    async def _connect(self) -> "_Link":
        """One attempt for all waiting exchanges. If one is cancelled, the attempt goes on."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(_open(self._pool.make_connection()))  # type: ignore[no-untyped-call]  # the library has no types here
            self._connecting.add_done_callback(self._connected)
        return await asyncio.shield(self._connecting)

    def _connected(self, connecting: "asyncio.Task[_Link]") -> None:
        wanted = connecting is self._connecting
        if wanted:
            self._connecting = None
        if connecting.cancelled() or connecting.exception() is not None:
            return
        if wanted:
            self._link = connecting.result()
        else:
            connecting.result().end(RedisConnectionError("the connection was closed"))


@dataclass(slots=True)
class _Exchange:
    """Commands that were sent, and those replies that have arrived."""

    count: int
    take: Take | None
    answered: asyncio.Future[list[Any]]
    replies: list[Any]


class _Link(asyncio.Protocol):
    """An open connection: assigns the replies to the commands, until it is lost."""

    def __init__(self, patience_seconds: float | None) -> None:
        self.patience_seconds = patience_seconds
        self.lost = False
        self._demoted = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._under_way: deque[_Exchange] = deque()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=self._refusal, notEnoughData=_INCOMPLETE
        )

    def ask(
        self, commands: bytes, count: int, take: Take | None = None
    ) -> "asyncio.Future[list[Any]]":
        if self.lost or self._transport.is_closing():
            self.end(RedisConnectionError("the connection was closed"))
            raise RedisConnectionError("the connection was closed")
        exchange = _Exchange(count, take, self._loop.create_future(), [])
        self._under_way.append(exchange)
        self._transport.write(commands)
        return exchange.answered

    def end(self, error: RedisError) -> None:
        """Closes it; pending exchanges fail."""
        self.lost = True
        self._transport.abort()
        under_way, self._under_way = self._under_way, deque()
        for exchange in under_way:
            if not exchange.answered.done():
                exchange.answered.set_exception(type(error)(*error.args))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # of a stream: it can be written to

    def data_received(self, data: bytes) -> None:
        next_reply, under_way = self._reader.gets, self._under_way
        try:
            self._reader.feed(data)
            while (reply := next_reply()) is not _INCOMPLETE:
                exchange = under_way[0]
                replies = exchange.replies
                replies.append(reply)
                if len(replies) == exchange.count:
                    under_way.popleft()
                    if not exchange.answered.done():  # otherwise the caller has gone
                        if exchange.take is not None:
                            exchange.take(replies)
                        exchange.answered.set_result(replies)
                    if self._demoted:
                        self.end(RedisConnectionError("the server does not accept writes"))
                        return
        except InvalidResponse as error:
            self.end(error)
        except IndexError:
            self.end(InvalidResponse("more replies than commands"))

    def eof_received(self) -> None:
        self.end(RedisConnectionError("the server closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(RedisConnectionError(f"the connection was lost: {type(exc).__name__}"))

    def _refusal(self, text: str) -> Exception:
        error: Exception = DefaultParser.parse_error(text)  # type: ignore[no-untyped-call]  # the library has no types here
        self._demoted |= isinstance(error, DEMOTED)
        return error


Settings = Connection | SSLConnection | UnixDomainSocketConnection
"""A connection of redis-py that is never opened: only its settings are used."""


async def _open(settings: Settings) -> _Link:
    """Connects and authenticates.

    Raises:
        RedisError: the server does not answer in time, or refuses.
    """
    link = _Link(settings.socket_timeout)
    try:
        async with asyncio.timeout(settings.socket_connect_timeout):
            await _reach(link, settings)
            try:
                await _enter(link, settings)
            except BaseException:
                link.end(RedisConnectionError("the connection was given up"))
                raise
    except TimeoutError:
        raise RedisTimeoutError("no connection in time") from None
    except OSError as error:
        raise RedisConnectionError(f"no connection: {error.strerror}") from error
    return link


async def _reach(link: _Link, settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    if isinstance(settings, UnixDomainSocketConnection):
        await loop.create_unix_connection(lambda: link, settings.path)
        return
    secure = settings.ssl_context.get() if isinstance(settings, SSLConnection) else None
    transport, _ = await loop.create_connection(
        lambda: link, settings.host, settings.port, ssl=secure
    )
    if settings.socket_keepalive:
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        options = cast(Mapping[int, int], settings.socket_keepalive_options)  # they have no type
        for option, value in options.items():
            raw.setsockopt(socket.IPPROTO_TCP, option, value)


async def _enter(link: _Link, settings: Settings) -> None:
    """Sends the credentials, and selects the database."""
    commands: list[Command] = []
    if settings.username:
        commands.append(("AUTH", settings.username, settings.password or ""))
    elif settings.password:
        commands.append(("AUTH", settings.password))
    if settings.client_name:
        commands.append(("CLIENT", "SETNAME", settings.client_name))
    if settings.db:
        commands.append(("SELECT", settings.db))
    if not commands:
        return
    packed = b"".join([pack(*command) for command in commands])
    with entering(REDIS_URL.name):
        for reply in await link.ask(packed, len(commands)):
            if isinstance(reply, RedisError):
                raise reply
