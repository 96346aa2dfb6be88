"""A connection to Redis that carries batches: packed commands there, their replies back.

Own code on the library's connection, because what redis-py's pipeline costs a command (packing its
arguments, a coroutine a reply) is more than all else of ours that a request costs. redis-py
connects, with TLS, credentials and database as the URL says; then its transport is taken over, and
hiredis parses what comes.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool, DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

from runtime.redis_client import COMMAND_SECONDS

_INCOMPLETE: Final = object()


def pack(*words: bytes) -> bytes:
    """A command in RESP, Redis's protocol: an array of strings, each with its length."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


class RedisWire:
    """One connection, made when it is needed, and anew when it was lost. One batch at a time."""

    def __init__(self, pool: ConnectionPool) -> None:
        """`pool`: knows how to connect; nothing is taken from it."""
        self._pool = pool
        self._replies: _Replies | None = None

    async def exchange(
        self, commands: bytes, count: int, take: Callable[[list[Any]], None] | None = None
    ) -> list[Any]:
        """Sends commands and gives their replies, in order; a refused command's is its RedisError.

        Args:
            commands: packed.
            count: how many they are.
            take: gets the replies the moment they are there: before the task that waits for them
                has its turn, which is after all else that came meanwhile.

        Raises:
            RedisError: there is no connection, it was lost, or the replies took longer than
                `COMMAND_SECONDS`. Any of the commands may have been carried out.
        """
        replies = self._replies
        if replies is None or replies.lost:
            replies = await self._connect()
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                return await replies.to(commands, count, take)
        except TimeoutError:
            self.close()
            raise RedisTimeoutError("no reply in time") from None
        except BaseException:  # also when cancelled: the replies are still to come
            self.close()
            raise

    def close(self) -> None:
        """Ends the connection at once; the next exchange makes another."""
        if self._replies is not None:
            self._replies.abort()
        self._replies = None

    async def _connect(self) -> "_Replies":
        self.close()
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # the library has no types here
        await connection.connect()  # type: ignore[no-untyped-call]  # the same
        # The one thing that the library doesn't hand out; without it, it has nothing to close.
        writer = connection._writer  # noqa: SLF001
        connection._reader = connection._writer = None  # noqa: SLF001
        if writer is None:
            raise RedisConnectionError("the connection was closed")
        self._replies = replies = _Replies(writer)
        return replies


class _Replies(asyncio.Protocol):
    """The receiving side: what comes, as replies to what was sent last."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer  # which would close the transport if it were let go
        transport = cast(asyncio.Transport, writer.transport)
        self._transport = transport
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=_INCOMPLETE,
        )
        self._came: list[Any] = []
        self._count = 0
        self._take: Callable[[list[Any]], None] | None = None
        self._all_came: asyncio.Future[list[Any]] | None = None
        self._loop = asyncio.get_running_loop()
        self.lost = transport.is_closing()
        transport.set_protocol(self)

    def to(
        self, commands: bytes, count: int, take: Callable[[list[Any]], None] | None
    ) -> "asyncio.Future[list[Any]]":
        self._came = []
        self._count = count
        self._take = take
        self._all_came = self._loop.create_future()
        if self.lost or self._transport.is_closing():
            self._end(RedisConnectionError("the connection was closed"))
        else:
            self._transport.write(commands)
        return self._all_came

    def abort(self) -> None:
        self.lost = True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        reader, came = self._reader, self._came
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _INCOMPLETE:
                # What the server says unasked (RESP3) is no reply.
                if not isinstance(reply, hiredis.PushNotification):
                    came.append(reply)
        except InvalidResponse as error:
            self._end(error)
            return
        if len(came) >= self._count:
            self._all_answered()

    def eof_received(self) -> None:
        self._end(RedisConnectionError("the server closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(RedisConnectionError(f"the connection was lost: {type(exc).__name__}"))

    def _all_answered(self) -> None:
        if len(self._came) > self._count or self._all_came is None:
            self._end(InvalidResponse("more replies than commands"))
        elif not self._all_came.done():
            if self._take is not None:
                self._take(self._came)
            self._all_came.set_result(self._came)
            self._all_came = None

    def _end(self, error: Exception) -> None:
        self.abort()
        if self._all_came is not None and not self._all_came.done():
            self._all_came.set_exception(error)
            self._all_came = None
