"""The consumer of the streams, on a real Valkey."""

from typing import Any

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from contract import keys
from contract.entry import join_records
from contract.errors import DeadLetter
from contract.flusher_metrics import FlusherMetrics
from contract.record import FIELD, encode
from flusher.rows.batch import Undecodable
from flusher.stream.dead_letters import set_aside
from flusher.stream.keeper import StreamKeeper
from flusher.stream.lag import measure_lag
from flusher.stream.read import StreamReader
from runtime.shards import OneServer
from tests.events import start

SHARDS = 4


def reader_of(shards: OneServer, name: str = "one", claim_seconds: float = 60) -> StreamReader:
    return StreamReader(shards, name, claim_seconds)


async def append(redis: Redis, count: int) -> list[bytes]:
    records = [encode(start()) for _ in range(count)]
    for number, record in enumerate(records):
        await redis.xadd(keys.stream(number % SHARDS), {FIELD: record})
    return records


async def test_every_entry_is_read_once_by_one_of_the_group(
    shards: OneServer, redis: Redis
) -> None:
    records = await append(redis, 40)
    one, two = reader_of(shards, "one"), reader_of(shards, "two")
    got = [await one.read(20), await two.read(100), await one.read(100), await two.read(100)]
    assert sorted(e.record for entries in got for e in entries) == sorted(records)
    assert [len(entries) for entries in got] == [20, 20, 0, 0]


async def append_shared(redis: Redis, *sizes: int) -> None:
    """An entry of so many records for each size, all in shard 0, as a collector counts them."""
    for size in sizes:
        content = join_records([encode(start()) for _ in range(size)])
        await redis.xadd(keys.stream(0), {FIELD: content})
        await redis.incrby(keys.joined(0), size - 1)


async def test_what_waits_is_counted_by_records_at_every_step(
    shards: OneServer, redis: Redis
) -> None:
    """The funnel counts sessions and upgrades, however many share an entry."""
    await append_shared(redis, 1, 2, 2, 32, 5)
    one, two = reader_of(shards, "one"), reader_of(shards, "two", claim_seconds=0)
    entries = await one.read(100)
    assert await waiting(one) == (5, 42)
    assert await one.acknowledge([entries[1], entries[3]]) == 34
    assert await waiting(one) == (3, 8)
    claimed = await two.claim(100)
    assert await two.acknowledge(claimed) == 8
    assert await one.acknowledge(entries) == 0, "another flusher has ended them"
    assert await waiting(one) == (0, 0)
    assert not await redis.exists(keys.joined(0))


async def test_an_entry_that_is_split_still_counts_as_its_records(
    shards: OneServer, redis: Redis
) -> None:
    await append_shared(redis, 4, 3)
    reader = reader_of(shards)
    entries = await reader.read(100)
    for _ in range(2):  # a second time it is not there
        await reader.split(entries[0])
    assert await waiting(reader) == (5, 7)
    await reader.acknowledge([*entries, *await reader.read(100)])
    assert await waiting(reader) == (0, 0)


async def test_a_count_that_was_disturbed_is_right_again_when_the_stream_is_empty(
    shards: OneServer, redis: Redis
) -> None:
    await redis.set(keys.joined(0), 999)
    reader = reader_of(shards)
    assert await waiting(reader) == (0, 0)
    await append_shared(redis, 2)
    await reader.acknowledge(await reader.read(100))
    await append_shared(redis, 3)
    assert await waiting(reader) == (1, 3)


async def waiting(reader: StreamReader) -> tuple[int, int]:
    """How many entries are in the streams, and records."""
    lags = await measure_lag(reader.servers, reader.shards)
    return sum(lag.entries for lag in lags), sum(lag.records for lag in lags)


async def test_the_last_write_to_a_shard_stays_known_when_all_is_flushed(
    shards: OneServer, redis: Redis
) -> None:
    reader = reader_of(shards)
    assert {lag.last_write for lag in await measure_lag(shards, reader.shards)} == {None}
    await append(redis, 1)
    (written,) = [lag for lag in await measure_lag(shards, reader.shards) if lag.entries]
    entries = await reader.read(100)
    (lag,) = [lag for lag in await measure_lag(shards, reader.shards) if lag.pending]
    assert (lag.shard, lag.pending) == (written.shard, 1)
    await reader.acknowledge(entries)
    lags = await measure_lag(shards, reader.shards)
    assert {lag.last_write for lag in lags} - {None} == {written.last_write}
    assert {(lag.entries, lag.pending) for lag in lags} == {(0, 0)}


async def test_what_a_dead_consumer_held_is_taken_over(shards: OneServer, redis: Redis) -> None:
    records = await append(redis, 8)
    dead = reader_of(shards, "dead")
    assert len(await dead.read(100)) == 8
    patient = reader_of(shards, "patient", claim_seconds=60)
    assert await patient.claim(100) == [], "not yet"
    heir = reader_of(shards, "heir", claim_seconds=0)
    assert sorted(e.record for e in await heir.claim(100)) == sorted(records)


async def keep(reader: StreamReader, helpers: StreamReader) -> None:
    """As a flusher does every few seconds, with entries that nobody may keep for long."""
    await StreamKeeper(reader, helpers, FlusherMetrics(CollectorRegistry()), 0).run_once()


async def test_streams_beyond_the_configured_ones_are_found_and_read(
    shards: OneServer, redis: Redis
) -> None:
    """As after a smaller STREAM_SHARDS; by the helper, too."""
    one, helper = reader_of(shards, "one"), reader_of(shards, "helper")
    await redis.xadd(keys.stream(SHARDS + 3), {FIELD: encode(start())})
    assert await one.read(100) == []
    await keep(one, helper)
    (entry,) = await helper.read(100)
    assert entry.shard == SHARDS + 3


async def test_entries_that_no_consumer_has_are_taken_up(shards: OneServer, redis: Redis) -> None:
    """As after `XGROUP DELCONSUMER`, which forgets what was pending."""
    records = await append(redis, 8)
    assert len(await reader_of(shards, "deleted").read(100)) == 8
    for shard in range(SHARDS):
        await redis.xgroup_delconsumer(keys.stream(shard), keys.GROUP, "deleted")
    heir = reader_of(shards, "heir", claim_seconds=0)
    assert [await heir.read(100), await heir.claim(100)] == [[], []]
    await keep(heir, heir)
    assert sorted(e.record for e in await heir.claim(100)) == sorted(records)


async def test_a_dead_letter_is_moved_whole_and_once(shards: OneServer, redis: Redis) -> None:
    await redis.xadd(keys.stream(2), {FIELD: b"\xff broken"})
    reader = reader_of(shards)
    (entry,) = await reader.read(100)
    broken = Undecodable(entry, DeadLetter("undecodable", "not a record"))
    for _ in range(2):
        await set_aside(shards, FlusherMetrics(CollectorRegistry()), broken)
    letters: Any = await redis.xrange(keys.dead_letters(2))
    ((_, letter),) = letters
    assert letter[FIELD] == b"\xff broken"
    assert letter[b"reason"] == b"undecodable"
    assert letter[b"entry"] == entry.id
    assert await redis.xlen(keys.stream(2)) == 0


async def test_a_consumer_leaves_nothing_behind_but_never_drops_what_is_pending(
    shards: OneServer, redis: Redis
) -> None:
    await append(redis, 8)
    busy, idle = reader_of(shards, "busy"), reader_of(shards, "idle")
    await busy.read(100)
    await idle.read(100)
    await busy.retire()
    await idle.retire()
    for shard in range(SHARDS):
        consumers = await redis.xinfo_consumers(keys.stream(shard), keys.GROUP)
        assert [consumer["name"] for consumer in consumers] == [b"busy"]
