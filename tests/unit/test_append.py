"""collector/buffer/append.py: an answer means a stored record, whatever happens to others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import pytest
from fakeredis import FakeAsyncRedis
from prometheus_client import CollectorRegistry
from redis import exceptions
from structlog.testing import capture_logs

from collector.buffer import node_writer
from collector.buffer.append import Appender
from collector.buffer.node_writer import MAX_BATCH, Connection, NodeWriter
from contract import keys
from contract.collector_metrics import CollectorMetrics
from contract.entry import RECORDS_MAX, split_entry
from contract.errors import Retry
from contract.record import FIELD
from tests.appending import append
from tests.unit.events import SESSION_ID

Batch = list[bytes]
Answer = Callable[[Batch], Sequence[object]]

OOM = exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")


def take_all(batch: Batch) -> Sequence[object]:
    return [f"{number}-0".encode() for number, _ in enumerate(batch)]


def refuse(error: exceptions.RedisError) -> Answer:
    def answer(_: Batch) -> Sequence[object]:
        raise error

    return answer


def refuse_some(error: exceptions.RedisError, *records: bytes) -> Answer:
    return lambda batch: [error if record in records else b"1-0" for record in batch]


class ScriptedRedis:
    """A connection that answers each write by the next line of a script, and takes it when the
    script is over.
    """

    def __init__(self, *script: Answer) -> None:
        self.script = list(script)
        self.batches: list[Batch] = []
        self.entries: list[Sequence[bytes]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = False

    def close(self) -> None:
        """Nothing is open."""

    async def exchange(
        self, commands: bytes, count: int, take: Callable[[list[Any]], None] | None = None
    ) -> list[Any]:
        entries = [split_entry(content) for content in self.contents(commands)]
        records = [record for entry in entries for record in entry]
        self.batches.append(records)
        self.entries += entries
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        answer = self.script.pop(0) if self.script else take_all
        answers = iter(answer(records))
        replies: list[Any] = []
        for entry in entries:
            each = [next(answers) for _ in entry]
            refused = [reply for reply in each if isinstance(reply, exceptions.RedisError)]
            if len(entry) == 1:
                replies += each
            elif refused:
                abort = exceptions.ExecAbortError("Transaction discarded")
                replies += [b"OK", refused[0], b"QUEUED", abort]
            else:
                replies += [b"OK", b"QUEUED", b"QUEUED", [each[0], len(entry) - 1]]
        assert len(replies) == count
        if take is not None:
            take(replies)
        return replies

    @staticmethod
    def contents(commands: bytes) -> Iterator[bytes]:
        for words in parse(commands):
            if words[0] == b"XADD":
                _, stream, id_, field, content = words
                assert (id_, field) == (b"*", FIELD)
                assert stream.startswith(b"impact:sessions:{")
                yield content
            else:
                assert words[0] in {b"MULTI", b"INCRBY", b"EXEC"}


class FakeWire:
    """A connection to a server that is played."""

    def __init__(self, redis: FakeAsyncRedis) -> None:
        self._redis = redis

    def close(self) -> None:
        """Nothing is open."""

    async def exchange(
        self, commands: bytes, count: int, take: Callable[[list[Any]], None] | None = None
    ) -> list[Any]:
        replies = [
            await self._redis.execute_command(*words)  # type: ignore[no-untyped-call]
            for words in parse(commands)
        ]
        assert len(replies) == count
        if take is not None:
            take(replies)
        return replies


def parse(commands: bytes) -> list[list[bytes]]:
    """Commands in RESP, as a server reads them."""
    reader = hiredis.Reader(notEnoughData=None)
    reader.feed(commands)
    return list(iter(reader.gets, None))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_writer, "_PAUSE_SECONDS", 0)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def appender(
    connection: Connection, shards: int = 4, registry: CollectorRegistry | None = None
) -> Appender:
    metrics = CollectorMetrics(registry or CollectorRegistry())
    return Appender(NodeWriter(lambda: connection, metrics), shards)


@asynccontextmanager
async def running(each: Appender) -> AsyncIterator[Appender]:
    task = asyncio.create_task(each.run())
    try:
        yield each
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settle() -> None:
    """Lets everything go on that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def record(number: int) -> bytes:
    return b"record %d" % number


async def appended(each: Appender, written: bytes) -> None:
    """As a request does: it waits for the record."""
    await append(each, SESSION_ID, written)


def asking(each: Appender, numbers: range) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(appended(each, record(number))) for number in numbers]


async def reasons(tasks: Sequence[asyncio.Task[None]]) -> list[str | None]:
    """Each task's end: None where it is stored, else the reason to try again."""
    async with asyncio.timeout(60):  # a fault is a failure, not a test that hangs
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        assert end is None or isinstance(end, Retry)
    return [end.reason if isinstance(end, Retry) else None for end in ends]


async def test_a_record_is_in_its_shards_stream_when_append_returns() -> None:
    redis = FakeAsyncRedis()
    async with running(appender(FakeWire(redis), shards=4)) as each:
        await append(each, SESSION_ID, b"one")
        await append(each, SESSION_ID, b"two")
    stream = keys.stream(keys.shard_of(SESSION_ID, 4))
    entries: Any = await redis.xrange(stream)
    assert [fields for _, fields in entries] == [{FIELD: b"one"}, {FIELD: b"two"}]
    assert await redis.keys() == [stream.encode()]
    await redis.aclose()


async def test_every_identity_goes_to_its_own_shard() -> None:
    redis = FakeAsyncRedis()
    identities = [bytes([number]) * 16 for number in range(40)]
    async with running(appender(FakeWire(redis), shards=4)) as each:
        await asyncio.gather(*(append(each, identity, identity) for identity in identities))
    for shard in range(4):
        entries: Any = await redis.xrange(keys.stream(shard))
        assert {fields[FIELD] for _, fields in entries} == {
            identity for identity in identities if keys.shard_of(identity, 4) == shard
        }
    await redis.aclose()


async def test_nothing_is_answered_before_redis_has_acknowledged_it() -> None:
    redis = ScriptedRedis()
    redis.gate.clear()
    async with running(appender(redis)) as each:
        (task,) = asking(each, range(1))
        await settle()
        assert redis.batches == [[record(0)]]
        assert not task.done()
        redis.gate.set()
        await task


async def test_what_arrives_during_a_write_shares_the_next_one(registry: CollectorRegistry) -> None:
    redis = ScriptedRedis()
    redis.gate.clear()
    async with running(appender(redis, registry=registry)) as each:
        first = asking(each, range(1))
        await settle()
        others = asking(each, range(1, 101))
        await settle()
        redis.gate.set()
        assert await reasons(first + others) == [None] * 101
    assert redis.batches == [[record(0)], [record(number) for number in range(1, 101)]]
    assert registry.get_sample_value("impact_append_batch_size_count") == 2
    assert registry.get_sample_value("impact_append_batch_size_sum") == 101


async def test_a_write_is_bounded() -> None:
    redis = ScriptedRedis()
    async with running(appender(redis)) as each:
        assert await reasons(asking(each, range(MAX_BATCH + 88))) == [None] * (MAX_BATCH + 88)
    assert [len(batch) for batch in redis.batches] == [MAX_BATCH, 88]


async def under_load(each: Appender, redis: ScriptedRedis, records: int) -> Sequence[str | None]:
    """Writes of so many records until entries are shared, and one more: what became of that."""
    for _ in range(50):
        await reasons(asking(each, range(records)))
    redis.entries.clear()
    return await reasons(asking(each, range(records)))


async def test_a_burst_is_no_load_and_has_an_entry_for_each_record() -> None:
    redis = ScriptedRedis()
    async with running(appender(redis)) as each:
        assert await reasons(asking(each, range(100))) == [None] * 100
    assert [len(entry) for entry in redis.entries] == [1] * 100


async def test_under_load_the_records_of_a_shard_share_entries() -> None:
    redis = ScriptedRedis()
    async with running(appender(redis)) as each:
        assert await under_load(each, redis, 40) == [None] * 40
        assert [len(entry) for entry in redis.entries] == [RECORDS_MAX, 40 - RECORDS_MAX]
        for _ in range(50):
            await reasons(asking(each, range(1)))
        redis.entries.clear()
        await reasons(asking(each, range(2)))
    assert [len(entry) for entry in redis.entries] == [1, 1], "the load is over"


async def test_a_primary_of_a_cluster_shares_entries_at_its_part_of_the_load() -> None:
    """It gets fewer records a write than one server does, and in writes of very different sizes."""
    redis = ScriptedRedis()
    async with running(appender(redis)) as each:
        for _ in range(30):
            for records in (1, 1, 5):
                redis.entries.clear()
                await reasons(asking(each, range(records)))
    assert [len(entry) for entry in redis.entries] == [5]


async def test_an_entry_that_is_refused_is_refused_for_all_that_share_it() -> None:
    """And for no other: none of it is stored."""
    redis = ScriptedRedis()
    async with running(appender(redis)) as each:
        await under_load(each, redis, 40)
        redis.script = [refuse_some(OOM, record(1))]
        shared, others = RECORDS_MAX, 40 - RECORDS_MAX
        ends = await reasons(asking(each, range(40)))
        assert ends == ["redis_full"] * shared + [None] * others


async def test_too_many_waiting_is_retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_writer, "MAX_WAITING", 3)
    redis = ScriptedRedis()
    each = appender(redis)
    tasks = asking(each, range(3))
    await settle()
    with pytest.raises(Retry) as caught:
        await append(each, SESSION_ID, record(3))
    assert caught.value.reason == "overload"
    async with running(each):
        assert await reasons(tasks) == [None] * 3, "those before are not harmed"
        await append(each, SESSION_ID, record(4))


async def test_what_is_not_acknowledged_in_time_is_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on its way as well as what waits behind it."""
    monkeypatch.setattr(node_writer, "WAIT_SECONDS", 0)
    redis = ScriptedRedis()
    redis.gate.clear()
    async with running(appender(redis)) as each:
        first = asking(each, range(1))
        await settle()
        assert await reasons(first + asking(each, range(1, 3))) == ["redis_away"] * 3
        redis.gate.set()
        await settle()
        assert redis.batches == [[record(0)]], "what was refused is not written afterwards"
        monkeypatch.setattr(node_writer, "WAIT_SECONDS", 60)
        await append(each, SESSION_ID, record(9))


async def test_a_deadline_is_each_requests_own(monkeypatch: pytest.MonkeyPatch) -> None:
    redis = ScriptedRedis()
    redis.gate.clear()
    async with running(appender(redis)) as each:
        monkeypatch.setattr(node_writer, "WAIT_SECONDS", 0)
        early = asking(each, range(1))
        await settle()
        monkeypatch.setattr(node_writer, "WAIT_SECONDS", 60)
        late = asking(each, range(1, 2))
        assert await reasons(early) == ["redis_away"]
        assert not late[0].done()
        redis.gate.set()
        assert await reasons(late) == [None]


async def test_a_request_that_goes_away_disturbs_neither_the_wire_nor_others() -> None:
    """A cancelled command once gave the next caller the wrong reply."""
    redis = ScriptedRedis()
    redis.gate.clear()
    async with running(appender(redis)) as each:
        sent = asking(each, range(3))
        await settle()
        waiting = asking(each, range(3, 6))
        await settle()
        sent[1].cancel()
        waiting[1].cancel()
        await settle()
        assert sent[1].cancelled()
        assert waiting[1].cancelled()
        assert not redis.cancelled
        redis.gate.set()
        assert await reasons([sent[0], sent[2], waiting[0], waiting[2]]) == [None] * 4
    # What waited is written all the same: its client sends it again, and it counts once.
    assert redis.batches == [[record(0), record(1), record(2)], [record(3), record(4), record(5)]]


async def test_out_of_memory_is_retry_redis_full_for_those_concerned() -> None:
    redis = ScriptedRedis(refuse_some(OOM, record(1)))
    async with running(appender(redis)) as each:
        assert await reasons(asking(each, range(3))) == [None, "redis_full", None]
        await append(each, SESSION_ID, record(9))
    assert len(redis.batches) == 2, "a full server is not asked again by itself"


async def test_an_out_of_memory_error_for_the_whole_write_is_redis_full_too() -> None:
    async with running(appender(ScriptedRedis(refuse(OOM)))) as each:
        assert await reasons(asking(each, range(2))) == ["redis_full"] * 2


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("Connection reset by peer"),
        exceptions.TimeoutError("Timeout reading from socket"),
        exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
        exceptions.ReadOnlyError("You can't write against a read only replica."),
        exceptions.ResponseError("BUSY Redis is busy running a script."),
    ],
)
async def test_an_error_that_passes_is_waited_out_and_then_all_is_stored(
    error: exceptions.RedisError,
) -> None:
    """In the order in which it came, also what came meanwhile."""
    redis = ScriptedRedis(refuse(error), refuse_some(error, record(0), record(1), record(2)))
    async with running(appender(redis)) as each:
        assert await reasons(asking(each, range(3))) == [None] * 3
    assert redis.batches == [[record(0), record(1), record(2)]] * 3


async def test_only_what_was_not_taken_is_written_again() -> None:
    redis = ScriptedRedis(refuse_some(exceptions.ReadOnlyError("replica"), record(1), record(2)))
    async with running(appender(redis)) as each:
        assert await reasons(asking(each, range(4))) == [None] * 4
    assert redis.batches == [
        [record(0), record(1), record(2), record(3)],
        [record(1), record(2)],
    ]


async def test_what_waits_for_a_server_that_is_away_ends_at_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node_writer, "WAIT_SECONDS", 0)
    redis = ScriptedRedis(*[refuse(exceptions.ConnectionError("refused"))] * 1000)
    async with running(appender(redis)) as each:
        assert await reasons(asking(each, range(3))) == ["redis_away"] * 3


async def test_an_error_that_does_not_pass_is_retry_at_once() -> None:
    """A 2xx is never sent for what isn't stored; the operator's fault is no 4xx either."""
    error = exceptions.ResponseError("WRONGTYPE Operation against a key")
    redis = ScriptedRedis(refuse_some(error, record(0)))
    async with running(appender(redis)) as each:
        assert await reasons(asking(each, range(2))) == ["redis_refused", None]
    assert len(redis.batches) == 1


async def test_readiness_follows_the_last_write() -> None:
    redis = ScriptedRedis()
    each = appender(redis)
    async with running(each):
        assert each.failing_since is None
        for error in (OOM, exceptions.ConnectionError("refused")):
            redis.script = [refuse_some(error, record(0))] * 3
            redis.gate.clear()
            (task,) = asking(each, range(1))
            redis.gate.set()
            for _ in range(5):
                await asyncio.sleep(0)
                if each.failing_since is not None:
                    break
            assert each.failing_since is not None
            await reasons([task])
            redis.script = []
            await append(each, SESSION_ID, record(1))
            assert each.failing_since is None


async def test_the_end_of_an_outage_is_told_when_all_shards_are_written_again() -> None:
    """Not each time that another shard is."""
    error = exceptions.ResponseError("WRONGTYPE Operation against a key")
    redis = ScriptedRedis(*[refuse_some(error, record(0))] * 5)
    each = appender(redis)
    by_shard = {
        keys.shard_of(identity, 4): identity for identity in (bytes([n] * 16) for n in range(99))
    }
    refused, other = by_shard[0], by_shard[1]
    with capture_logs() as lines:
        async with running(each):
            for _ in range(5):
                await asyncio.gather(
                    append(each, refused, record(0)),
                    append(each, other, record(1)),
                    return_exceptions=True,
                )
            assert {line["event"] for line in lines} == {"sessions can't be written"}
            await append(each, other, record(1))
            assert "sessions are written again" not in {line["event"] for line in lines}
            await append(each, refused, record(0))
    assert lines[-1]["event"] == "sessions are written again"


async def test_a_write_that_is_refused_as_a_whole_is_a_failing_write() -> None:
    """Ready must mean that a write succeeded recently."""
    redis = ScriptedRedis(refuse(exceptions.ResponseError("invalid DB index")))
    async with running(appender(redis)) as each:
        assert await reasons(asking(each, range(1))) == ["redis_refused"]
        assert each.failing_since is not None


@pytest.mark.parametrize("error", [RuntimeError("a bug of the client"), OSError(24, "no sockets")])
async def test_an_unexpected_error_ends_neither_the_writer_nor_the_waiting(
    error: Exception,
) -> None:
    """Otherwise every later request would wait for ever, while the process looks alive."""

    def fault(_: Batch) -> Sequence[object]:
        raise error

    async with running(appender(ScriptedRedis(fault, fault))) as each:
        for number in range(2):
            _, waiting = await asyncio.wait(asking(each, range(number, number + 1)), timeout=60)
            for task in waiting:
                task.cancel()
            assert not waiting
        await append(each, SESSION_ID, record(2))
