"""runtime/redis_connection.py on a real server: each reply is its own command's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from collector.buffer.append import Appender
from collector.buffer.durability import Durability
from collector.buffer.node_writer import NodeWriter
from contract import keys
from contract.collector_metrics import CollectorMetrics
from contract.entry import split_entry
from embedded.valkey import ValkeyServer
from runtime.redis_client import connect_redis, is_passing
from runtime.redis_connection import RedisConnection, pack
from tests.appending import append
from tests.servers import Servers
from tests.system import eventually


@pytest.fixture
async def connection(redis: Redis) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(redis)
    yield connection
    connection.close()


async def test_each_refusal_is_its_commands_own_reply_and_has_the_librarys_type(
    connection: RedisConnection,
) -> None:
    """By it is decided what may be tried again."""
    script = b"return redis.error_reply(ARGV[1])"
    said: list[tuple[bytes, type[RedisError], bool]] = [
        (b"OOM command not allowed when used memory > 'maxmemory'.", OutOfMemoryError, False),
        (b"READONLY You can't write against a read only replica.", ReadOnlyError, True),
        (b"BUSY Redis is busy running a script.", ResponseError, True),
        (b"MOVED 1 127.0.0.1:7001", ResponseError, False),
    ]
    commands = [pack(b"EVAL", script, b"0", text) + pack("ECHO", text) for text, _, _ in said]
    replies = await connection.exchange(b"".join(commands), 2 * len(said))
    assert replies[1::2] == [text for text, _, _ in said]
    for reply, (_, kind, passing) in zip(replies[::2], said, strict=True):
        assert isinstance(reply, kind)
        assert is_passing(reply) is passing


async def test_a_server_that_does_not_answer_is_given_up(
    embedded_servers: Servers, redis: Redis
) -> None:
    client = connect_redis(embedded_servers.redis.url + "?socket_timeout=1")
    connection = RedisConnection(client)
    with pytest.raises(RedisTimeoutError):
        await connection.exchange(pack(b"BLPOP", b"nothing", b"0"), 1)
    # What the first would have had is not taken for the next one's.
    await redis.rpush("nothing", "late")
    assert await connection.exchange(pack(b"ECHO", b"next"), 1) == [b"next"]
    connection.close()


async def waiting_clients(redis: Redis) -> int:
    clients: dict[str, int] = await redis.info("clients")
    return clients["blocked_clients"]


async def test_an_exchange_that_is_cancelled_leaves_no_reply_behind(
    connection: RedisConnection, redis: Redis
) -> None:
    await connection.exchange(pack(b"PING"), 1)
    task = asyncio.create_task(connection.exchange(pack(b"BLPOP", b"nothing", b"1"), 1))
    await eventually(partial(waiting_clients, redis))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await connection.exchange(pack(b"ECHO", b"next"), 1) == [b"next"]


async def test_many_exchanges_share_a_connection_and_each_has_its_own_replies(
    connection: RedisConnection,
) -> None:
    async def ask(number: int) -> list[Any]:
        return await connection.ask([("CLIENT", "ID"), *[("ECHO", number)] * (number % 5)])

    answers = await asyncio.gather(*map(ask, range(50)))
    assert len({client for client, *_ in answers}) == 1
    for number, (_, *echoes) in enumerate(answers):
        assert echoes == [b"%d" % number] * (number % 5)


async def test_what_is_under_way_when_the_connection_is_lost_fails_each_once(
    connection: RedisConnection, redis: Redis
) -> None:
    (number,) = await connection.ask([("CLIENT", "ID")])
    taken: list[object] = []
    asked = [
        asyncio.create_task(connection.exchange(pack("BLPOP", "nothing", 0), 1, taken.append))
        for _ in range(3)
    ]
    await eventually(partial(waiting_clients, redis))
    await redis.client_kill_filter(_id=str(number))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [RedisConnectionError] * 3
    assert not taken
    assert await connection.ask([("ECHO", "next")]) == [b"next"]


async def test_a_server_that_takes_no_writes_is_left_after_its_reply(
    connection: RedisConnection,
) -> None:
    """Its address may lead to another server by then."""
    (number,) = await connection.ask([("CLIENT", "ID")])
    command = pack("EVAL", "return redis.error_reply('READONLY it is')", 0)
    (reply,) = await connection.exchange(command, 1)
    assert isinstance(reply, ReadOnlyError)
    (another,) = await connection.ask([("CLIENT", "ID")])
    assert another > number
    with pytest.raises(RedisConnectionError):
        await connection.ask([("EVAL", "return redis.error_reply('LOADING it is')", 0)])


async def test_a_caller_that_is_cancelled_while_it_connects_does_not_disturb_the_others(
    connection: RedisConnection,
) -> None:
    first = asyncio.create_task(connection.ask([("ECHO", "first")]))
    second = asyncio.create_task(connection.ask([("ECHO", "second")]))
    await asyncio.sleep(0)  # both have begun
    first.cancel()
    assert await second == [b"second"]
    assert first.cancelled()


async def test_closed_while_it_connects_it_is_not_left_behind(
    connection: RedisConnection, redis: Redis
) -> None:
    before = await redis.info("clients")
    asked = asyncio.create_task(connection.ask([("ECHO", "x")]))
    await asyncio.sleep(0)  # it has begun to connect
    connection.close()
    with pytest.raises(RedisConnectionError):
        await asked
    await eventually(lambda: redis.info("clients"), lambda now: now == before)


async def test_the_settings_of_the_url_say_who_is_let_in(
    embedded_servers: Servers, redis: Redis
) -> None:
    await redis.acl_setuser("someone", enabled=True, passwords=["+se,cret"], commands=["+@all"])
    server = embedded_servers.redis.url.removeprefix("redis://")
    client = connect_redis(f"redis://someone:se%2Ccret@{server}?client_name=named")
    connection = RedisConnection(client)
    (info,) = await connection.ask([("CLIENT", "INFO")])
    assert b" user=someone " in info
    assert b" name=named " in info
    connection.close()
    wrong = RedisConnection(connect_redis(f"redis://someone:wrong@{server}"))
    with pytest.raises(AuthenticationError):
        await wrong.ask([("PING",)])
    await redis.acl_deluser("someone")


async def test_a_server_that_is_not_there_is_away() -> None:
    for url in ("redis://127.0.0.1:1", "unix:///nowhere/redis.sock"):
        with pytest.raises(RedisConnectionError) as caught:
            await RedisConnection(connect_redis(url)).ask([("PING",)])
        assert is_passing(caught.value)


async def test_it_goes_by_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = ValkeyServer(tmp_path / "valkey", config={"unixsocket": str(path)})
    server.start()
    try:
        connection = RedisConnection(connect_redis(f"unix://{path}?db=2"))
        (info,) = await connection.ask([("CLIENT", "INFO")])
        assert b" db=2 " in info
        connection.close()
    finally:
        server.stop()


@asynccontextmanager
async def _appending(redis: Redis, durability: Durability) -> AsyncIterator[Appender]:
    writer = NodeWriter(
        lambda: RedisConnection(redis), CollectorMetrics(CollectorRegistry()), durability
    )
    appender = Appender(writer, 4)
    running = asyncio.create_task(appender.writer.run())
    try:
        yield appender
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("durability", [Durability.SERVER, Durability.FSYNC])
async def test_each_acknowledged_record_is_in_its_shard_once(
    redis: Redis, durability: Durability
) -> None:
    identities = [number.to_bytes(16, "big") for number in range(4000)]
    async with _appending(redis, durability) as appender:
        for start in range(0, 4000, 500):
            part = identities[start : start + 500]
            await asyncio.gather(*(append(appender, identity, identity) for identity in part))
        assert appender.writer.idle
    found: list[bytes] = []
    entries = 0
    for shard in range(4):
        here: Any = await redis.xrange(keys.stream(shard))
        records = [record for _, fields in here for record in split_entry(fields[b"e"])]
        assert all(keys.shard_of(record, 4) == shard for record in records)
        assert int(await redis.get(keys.joined(shard)) or 0) == len(records) - len(here)
        found += records
        entries += len(here)
    assert sorted(found) == identities
    assert entries < len(identities), "five hundred at a time are load"
