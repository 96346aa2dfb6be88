"""Commands to Redis as bytes, and replies as the parser makes them.

For what is asked of Redis for every entry: redis-py packs each argument and unpacks each reply in
Python, which costs more than all that the flusher does with an entry (`docs/performance.md`). The
connections, with their timeouts, TLS and passwords, are redis-py's own.
"""

from collections.abc import Sequence
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

Command = tuple[str | bytes | int, ...]


class Wire:
    """Asks one server several commands in one write."""

    def __init__(self, redis: Redis) -> None:
        self._pool = redis.connection_pool

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The reply to each command; where the server refuses one, its error as a value.

        Raises:
            RedisError: the server is away; whether anything was done is unknown.
        """
        connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            packed = b"".join([_pack(command) for command in commands])
            await connection.send_packed_command(packed)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except BaseException:
            # What would be read next is the answer to another question.
            await connection.disconnect(nowait=True)
            raise
        else:
            return replies
        finally:
            await self._pool.release(connection)


def _pack(command: Command) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type] # its stub: one word
    return packed
