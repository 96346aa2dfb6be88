"""`python -m bench.speed.redis_clients`: CPU of this process for a thousand commands, by client.

What decision 14 rests on. In turns, the least of some rounds; Valkey is another process.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop
from redis.asyncio import Redis

from embedded.valkey import ValkeyServer
from runtime.redis_client import connect_redis
from runtime.redis_connection import Command, RedisConnection

_SHARDS: Final = 8
_ENTRIES: Final = 1000
_ROUNDS: Final = 7
_IDS: Final = [b"%d-0" % number for number in range(_ENTRIES)]
_RECORD: Final = os.urandom(90)

Ask = Callable[[Sequence[Command]], Awaitable[Any]]

# What is asked, in one write where the client can: how often, and a command for each shard.
_ASKED: Final[dict[str, tuple[int, list[Command]]]] = {
    "append a record": (200, [("XADD", "new", "*", "e", _RECORD)] * _SHARDS),
    "read an entry": (200, [("XRANGE", n, "-", "+", "COUNT", 1) for n in range(_SHARDS)]),
    "read 1,000 entries": (8, [("XRANGE", n, "-", "+", "COUNT", 1000) for n in range(_SHARDS)]),
    "end 1,000 entries": (8, [("XACK", n, "g", *_IDS) for n in range(_SHARDS)]),
}


def _pipeline(redis: Redis) -> Ask:
    async def ask(commands: Sequence[Command]) -> Any:
        pipeline = redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    return ask


async def _measure(url: str) -> None:
    redis, plain = connect_redis(url), connect_redis(url)
    plain.response_callbacks.clear()  # replies as they come
    connection = RedisConnection(redis)
    for shard in range(_SHARDS):
        await connection.ask([("XADD", shard, "*", "e", _RECORD)] * _ENTRIES)
    clients = {
        "redis-py's pipeline": _pipeline(redis),
        "the same, replies as they come": _pipeline(plain),
        "RedisConnection": connection.ask,
    }
    for what, (times, commands) in _ASKED.items():
        least = dict.fromkeys(clients, float("inf"))
        for _ in range(_ROUNDS):
            for name, ask in clients.items():
                began = time.process_time()
                for _ in range(times):
                    await ask(commands)
                seconds = (time.process_time() - began) / times / len(commands)
                least[name] = min(least[name], seconds)
        for name, seconds in least.items():
            print(f"{what:<20} {name:<32} {seconds * 1e6:9.1f} ms a thousand commands")
    connection.close()
    await asyncio.gather(redis.aclose(), plain.aclose())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = ValkeyServer(Path(folder) / "valkey")
        server.start()
        try:
            uvloop.run(_measure(server.url))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
