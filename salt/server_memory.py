"""Overwrites a server's freed memory, so that no byte of a salt is left in it."""

from importlib.resources import files
from typing import Final

from redis.asyncio import Redis

from contract import keys

_SCRIPT: Final = files("salt").joinpath("push_out.lua").read_text()
# Smaller than what a server reads at once, and than a connection's reply buffer.
_BUFFER: Final = 15 * 1024


async def push_out(server: Redis) -> None:
    """Overwrites the freed memory of a server and its replicas, and the buffers that the server has
    for this connection.

    Raises:
        RedisError: the server does not answer, or refuses.
    """
    await server.register_script(_SCRIPT)(keys=[keys.SCRUB])
    await server.echo(bytes(_BUFFER))
