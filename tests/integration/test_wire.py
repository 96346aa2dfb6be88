"""collector/buffer/wire.py and node_writer.py on a real server: each reply is its own command's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from collector.buffer import wire as wires
from collector.buffer.append import Appender
from collector.buffer.node_writer import Durability, NodeWriter
from collector.buffer.wire import RedisWire, pack
from contract import keys
from contract.entry import split_entry
from contract.metrics import CollectorMetrics
from runtime.redis_client import connect_redis, is_passing
from tests.appending import append
from tests.servers import Servers
from tests.system import eventually


@pytest.fixture
async def wire(redis: Redis) -> AsyncIterator[RedisWire]:
    wire = RedisWire(redis.connection_pool)
    yield wire
    wire.close()


async def test_replies_come_in_the_order_of_their_commands(wire: RedisWire) -> None:
    words = [b"%d" % number * number for number in range(1, 300)]
    replies = await wire.exchange(b"".join(pack(b"ECHO", word) for word in words), len(words))
    assert replies == words


async def test_a_refused_command_is_its_own_reply(wire: RedisWire, redis: Redis) -> None:
    await redis.set("text", "x")
    xadd = pack(b"XADD", b"stream", b"*", b"e", b"1")
    wrong = pack(b"XADD", b"text", b"*", b"e", b"1")
    first, second, third = await wire.exchange(xadd + wrong + xadd, 3)
    assert first < third
    assert isinstance(second, ResponseError)
    assert not is_passing(second)


async def test_refusals_have_the_librarys_types(wire: RedisWire, redis: Redis) -> None:
    """By them is decided what may be tried again."""
    script = b"return redis.error_reply(ARGV[1])"
    said: list[tuple[bytes, type[RedisError], bool]] = [
        (b"OOM command not allowed when used memory > 'maxmemory'.", OutOfMemoryError, False),
        (b"READONLY You can't write against a read only replica.", ReadOnlyError, True),
        (b"BUSY Redis is busy running a script.", ResponseError, True),
        (b"MOVED 1 127.0.0.1:7001", ResponseError, False),
    ]
    commands = b"".join(pack(b"EVAL", script, b"0", text) for text, _, _ in said)
    replies = await wire.exchange(commands, len(said))
    for reply, (_, kind, passing) in zip(replies, said, strict=True):
        assert isinstance(reply, kind)
        assert is_passing(reply) is passing
    assert await redis.ping()


async def test_a_lost_connection_is_passing_and_the_next_exchange_has_another(
    wire: RedisWire, redis: Redis
) -> None:
    (number,) = await wire.exchange(pack(b"CLIENT", b"ID"), 1)
    with pytest.raises(RedisConnectionError):
        await wire.exchange(pack(b"CLIENT", b"KILL", b"ID", b"%d" % number, b"SKIPME", b"no"), 2)
    (another,) = await wire.exchange(pack(b"CLIENT", b"ID"), 1)
    assert another > number
    await redis.client_kill_filter(_id=str(another))
    (third,) = await _patiently(wire)
    assert third > another


async def _patiently(wire: RedisWire) -> list[int]:
    """An idle connection that was killed is known as lost at once, or when it is used."""
    try:
        return await wire.exchange(pack(b"CLIENT", b"ID"), 1)
    except RedisConnectionError:
        return await wire.exchange(pack(b"CLIENT", b"ID"), 1)


async def test_a_server_that_does_not_answer_is_given_up(
    wire: RedisWire, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wires, "COMMAND_SECONDS", 0.1)
    with pytest.raises(RedisTimeoutError):
        await wire.exchange(pack(b"BLPOP", b"nothing", b"0"), 1)
    monkeypatch.undo()
    # What the first would have had is not taken for the next one's.
    await redis.rpush("nothing", "late")
    assert await wire.exchange(pack(b"ECHO", b"next"), 1) == [b"next"]


async def waiting_clients(redis: Redis) -> int:
    clients: dict[str, int] = await redis.info("clients")
    return clients["blocked_clients"]


async def test_an_exchange_that_is_cancelled_leaves_no_reply_behind(
    wire: RedisWire, redis: Redis
) -> None:
    await wire.exchange(pack(b"PING"), 1)
    task = asyncio.create_task(wire.exchange(pack(b"BLPOP", b"nothing", b"1"), 1))
    await eventually(partial(waiting_clients, redis))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await wire.exchange(pack(b"ECHO", b"next"), 1) == [b"next"]


async def test_the_database_of_the_url_is_the_one(embedded_servers: Servers) -> None:
    client = connect_redis(embedded_servers.redis.url.removesuffix("/0") + "/3")
    wire = RedisWire(client.connection_pool)
    try:
        (info,) = await wire.exchange(pack(b"CLIENT", b"INFO"), 1)
        assert " db=3 " in str(info)
    finally:
        wire.close()
        await client.aclose()


@asynccontextmanager
async def _appending(redis: Redis, durability: Durability) -> AsyncIterator[Appender]:
    writer = NodeWriter(
        lambda: RedisWire(redis.connection_pool), CollectorMetrics(CollectorRegistry()), durability
    )
    appender = Appender(writer, 4)
    running = asyncio.create_task(appender.run())
    try:
        yield appender
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("durability", [Durability.SERVER, Durability.FSYNC])
async def test_each_acknowledged_record_is_in_its_shard_once(
    redis: Redis, durability: Durability
) -> None:
    identities = [number.to_bytes(16, "big") for number in range(2000)]
    async with _appending(redis, durability) as appender:
        for start in range(0, 2000, 500):
            part = identities[start : start + 500]
            await asyncio.gather(*(append(appender, identity, identity) for identity in part))
        assert appender.idle
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
