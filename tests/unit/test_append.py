"""collector/buffer/append.py, node_writer.py: a record is acknowledged only when it is stored.

`tests/integration/test_redis_connection.py` writes to real servers.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis
from prometheus_client import CollectorRegistry
from redis import exceptions

from collector.buffer import node_writer
from collector.buffer.append import Appender
from collector.buffer.node_writer import MAX_BATCH, NodeWriter
from contract import keys
from contract.collector_metrics import CollectorMetrics
from contract.entry import RECORDS_MAX
from contract.errors import Retry
from contract.record import FIELD
from runtime.redis_connection import RedisConnection, Take
from tests.appending import append, parse_commands
from tests.unit.events import SESSION_ID
from tests.unit.scripted import ScriptedConnection

OOM = exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")


class FakeServer(RedisConnection):
    """A connection to an imitated Redis."""

    def __init__(self, redis: FakeAsyncRedis) -> None:
        self._redis = redis

    def close(self) -> None:
        """Nothing is open."""

    async def exchange(self, commands: bytes, count: int, take: Take | None = None) -> list[Any]:
        replies = [
            await self._redis.execute_command(*words)  # type: ignore[no-untyped-call]
            for words in parse_commands(commands)
        ]
        assert len(replies) == count
        if take is not None:
            take(replies)
        return replies


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_writer, "_PAUSE_SECONDS", 0)


@pytest.fixture
def redis() -> ScriptedConnection:
    return ScriptedConnection()


@pytest.fixture
def idle_appender(redis: ScriptedConnection) -> Appender:
    return Appender(NodeWriter(lambda: redis, CollectorMetrics(CollectorRegistry())), 4)


@pytest.fixture
async def appender(idle_appender: Appender) -> AsyncIterator[Appender]:
    async with running(idle_appender):
        yield idle_appender


@asynccontextmanager
async def running(appender: Appender) -> AsyncIterator[None]:
    task = asyncio.create_task(appender.writer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settle() -> None:
    """Lets all tasks go on until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


def record(number: int) -> bytes:
    return b"record %d" % number


def records(numbers: range) -> list[bytes]:
    return list(map(record, numbers))


async def test_every_identitys_record_is_in_its_own_shard() -> None:
    redis = FakeAsyncRedis()
    appender = Appender(
        NodeWriter(lambda: FakeServer(redis), CollectorMetrics(CollectorRegistry())), 4
    )
    identities = [bytes([number]) * 16 for number in range(40)]
    async with running(appender):
        for identity in identities:
            await append(appender, identity, identity)
    for shard in range(4):
        entries: Any = await redis.xrange(keys.stream(shard))
        assert [fields[FIELD] for _, fields in entries] == [
            identity for identity in identities if keys.shard_of(identity, 4) == shard
        ]
    await redis.aclose()


def send(appender: Appender, numbers: range) -> list[asyncio.Task[None]]:
    """Requests, each of which waits for its record."""
    return [asyncio.create_task(append(appender, SESSION_ID, each)) for each in records(numbers)]


async def reasons(requests: Sequence[asyncio.Task[None]]) -> list[str | None]:
    """The result of each request: None if its record is stored, else the reason of the Retry."""
    async with asyncio.timeout(60):  # a fault is a failure, not a test that hangs
        results = await asyncio.gather(*requests, return_exceptions=True)
    for result in results:
        assert result is None or isinstance(result, Retry)
    return [result.reason if isinstance(result, Retry) else None for result in results]


async def test_records_share_writes_which_are_bounded(
    redis: ScriptedConnection, appender: Appender
) -> None:
    assert await reasons(send(appender, range(MAX_BATCH + 88))) == [None] * (MAX_BATCH + 88)
    assert redis.batches == [records(range(MAX_BATCH)), records(range(MAX_BATCH, MAX_BATCH + 88))]
    assert {len(entry) for entry in redis.entries} == {1}, "a burst is not load yet"


async def put_load(appender: Appender, redis: ScriptedConnection, count: int) -> None:
    """So many writes of this size that entries are shared."""
    for _ in range(50):
        await reasons(send(appender, range(count)))
    redis.entries.clear()


async def test_under_load_the_records_of_a_shard_share_entries(
    redis: ScriptedConnection, appender: Appender
) -> None:
    await put_load(appender, redis, 40)
    assert await reasons(send(appender, range(40))) == [None] * 40
    assert [len(entry) for entry in redis.entries] == [RECORDS_MAX, 40 - RECORDS_MAX]
    await put_load(appender, redis, 1)
    await reasons(send(appender, range(2)))
    assert [len(entry) for entry in redis.entries] == [1, 1], "the load is over"


async def test_a_primary_of_a_cluster_shares_entries_under_its_part_of_the_load(
    redis: ScriptedConnection, appender: Appender
) -> None:
    """It gets fewer records in each write than a single server, and writes differ more in size."""
    for _ in range(30):
        for count in (1, 1, 5):
            redis.entries.clear()
            await reasons(send(appender, range(count)))
    assert [len(entry) for entry in redis.entries] == [5]


async def test_an_entry_that_is_refused_is_refused_for_all_its_records_and_no_others(
    redis: ScriptedConnection, appender: Appender
) -> None:
    await put_load(appender, redis, 40)
    redis.script = [{record(1): OOM}]
    results = await reasons(send(appender, range(40)))
    assert results == ["redis_full"] * RECORDS_MAX + [None] * (40 - RECORDS_MAX)


async def test_too_many_waiting_records_are_refused_at_once(
    idle_appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_writer, "MAX_WAITING", 3)
    requests = send(idle_appender, range(3))
    await settle()
    with pytest.raises(Retry) as caught:
        await append(idle_appender, SESSION_ID, record(3))
    assert caught.value.reason == "overload"
    async with running(idle_appender):
        assert await reasons(requests) == [None] * 3, "the waiting ones are stored"
        await append(idle_appender, SESSION_ID, record(4))


async def test_a_record_that_is_not_acknowledged_in_time_is_retry(
    redis: ScriptedConnection, idle_appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both a record that was sent and one that waits behind it; a later one has its own time."""
    redis.gate.clear()
    monkeypatch.setattr(node_writer, "WAIT_SECONDS", 0)
    async with running(idle_appender):
        early = send(idle_appender, range(1))
        await settle()
        early += send(idle_appender, range(1, 3))
        await settle()
        monkeypatch.setattr(node_writer, "WAIT_SECONDS", 60)
        late = send(idle_appender, range(3, 4))
        assert await reasons(early) == ["redis_away"] * 3
        assert not late[0].done()
        redis.gate.set()
        assert await reasons(late) == [None]
    # What was refused is not written afterwards.
    assert redis.batches == [[record(0)], [record(3)]]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OOM, "redis_full"),
        # A 2xx is never sent for what is not stored. It is no 4xx: the client did nothing wrong.
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), "redis_refused"),
    ],
    ids=["full", "refused"],
)
async def test_an_error_that_stays_is_retry_at_once_for_the_refused_records(
    redis: ScriptedConnection, appender: Appender, error: exceptions.RedisError, reason: str
) -> None:
    redis.script = [{record(1): error}, error]
    assert await reasons(send(appender, range(3))) == [None, reason, None]
    assert await reasons(send(appender, range(2))) == [reason] * 2, "the whole write"
    assert appender.writer.failing_since is not None
    await append(appender, SESSION_ID, record(9))
    assert len(redis.batches) == 3, "no write is repeated"


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("Connection reset by peer"),
        exceptions.ResponseError("BUSY Redis is busy running a script."),
    ],
)
async def test_after_an_error_that_passes_the_records_are_written_again_in_order(
    redis: ScriptedConnection, appender: Appender, error: exceptions.RedisError
) -> None:
    redis.script = [error, {record(1): error, record(2): error}]
    assert await reasons(send(appender, range(4))) == [None] * 4
    assert redis.batches == [*[records(range(4))] * 2, records(range(1, 3))], "the rest only"


@pytest.mark.parametrize("error", [RuntimeError("a bug of the client"), OSError(24, "no sockets")])
async def test_an_unexpected_error_ends_neither_the_writer_nor_leaves_a_request_waiting(
    redis: ScriptedConnection, appender: Appender, error: Exception
) -> None:
    """Otherwise every later request would wait for ever, while the process looks alive."""
    redis.script = [error, error]
    for number in range(2):
        _, waiting = await asyncio.wait(send(appender, range(number, number + 1)), timeout=60)
        assert not waiting
    await append(appender, SESSION_ID, record(2))
