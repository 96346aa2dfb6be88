"""The worker between a real Valkey and a real PostgreSQL: `run_once`, and what it promises."""

from collections.abc import Iterable
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from contract import keys
from contract.entry import RECORDS_MAX, join_records
from contract.errors import Retry, TimedOut
from contract.flusher_metrics import FlusherMetrics
from contract.record import FIELD, Event, encode
from flusher.measuring import Measuring
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from flusher.rows.entry import Entry
from flusher.stream.read import StreamReader
from flusher.worker import Flushed, Worker
from flusher.worker_settings import WorkerSettings
from runtime.shards import OneServer
from tests.events import start, upgrade

UTC = ZoneInfo("UTC")
SETTINGS = WorkerSettings(UTC, max_rows=1000, max_seconds=0.1, claim_seconds=60)


class Bench:
    """A worker, what it reads from and what it counts."""

    def __init__(
        self,
        shards: OneServer,
        redis: Redis,
        database: Database,
        reader: StreamReader | None = None,
    ) -> None:
        self.redis = redis
        self.database = database
        self.shards = shards
        self.registry = CollectorRegistry()
        self.metrics = FlusherMetrics(self.registry)
        self.reader = reader or StreamReader(shards, "one", 60)
        self.worker = Worker(
            self.reader,
            SessionWriter(database, UTC),
            self.metrics,
            SETTINGS,
        )

    async def append(self, *events: Event) -> None:
        for event in events:
            await self.redis.xadd(keys.stream(0), {FIELD: encode(event)})

    async def append_together(self, *records: bytes) -> None:
        await self.redis.xadd(keys.stream(0), {FIELD: join_records(records)})
        await self.redis.incrby(keys.joined(0), len(records) - 1)

    async def stored(self) -> int:
        async with self.database.connection() as connection:
            return int(await connection.fetchval("SELECT count(*) FROM sessions"))

    async def buffered(self) -> int:
        return sum([int(await self.redis.xlen(keys.stream(n))) for n in range(self.shards.count)])

    def counted(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"impact_{name}_total", labels) or 0.0


@pytest.fixture
async def bench(shards: OneServer, redis: Redis, database: Database) -> Bench:
    bench = Bench(shards, redis, database)
    await bench.worker.prepare()
    return bench


async def test_a_batch_goes_from_the_streams_to_the_table(bench: Bench) -> None:
    session = start()
    await bench.append(session, upgrade(session.id), session)
    assert await bench.worker.run_once() == Flushed(3, 0)
    assert (await bench.stored(), await bench.buffered()) == (1, 0)
    assert bench.counted("written", kind="session") == bench.counted("written", kind="upgrade") == 1
    assert bench.counted("duplicate", kind="session") == 1
    assert await bench.worker.run_once() == Flushed()


async def test_what_is_no_event_is_set_aside_and_its_neighbours_are_stored(bench: Bench) -> None:
    await bench.append(start())
    for record in (b"", b"\x01", b"\xff" * 80):
        await bench.redis.xadd(keys.stream(0), {FIELD: record})
    await bench.append(start())
    assert await bench.worker.run_once() == Flushed(5, 3)
    assert (await bench.stored(), await bench.buffered()) == (2, 0)
    assert await bench.redis.xlen(keys.dead_letters(0)) == 3
    assert bench.counted("dead", reason="undecodable") == 2
    assert bench.counted("dead", reason="unknown_version") == 1


async def test_a_row_that_postgres_refuses_is_set_aside_alone(bench: Bench) -> None:
    async with bench.database.connection() as connection:
        await connection.execute("ALTER TABLE sessions ADD CHECK (site <> 'refused.example.org')")
    await bench.append(*(start() for _ in range(20)), start(site="refused.example.org"))
    await bench.append(*(start() for _ in range(20)))
    assert await bench.worker.run_once() == Flushed(41, 1)
    assert (await bench.stored(), await bench.buffered()) == (40, 0)
    letters: Any = await bench.redis.xrange(keys.dead_letters(0))
    ((_, letter),) = letters
    assert letter[b"reason"] == b"sqlstate_23514"
    assert bench.counted("written", kind="session") == 40


async def test_while_postgres_is_away_entries_stay_and_none_is_a_dead_letter(
    shards: OneServer, redis: Redis, database: Database
) -> None:
    nowhere = Bench(shards, redis, Database("postgresql://postgres@127.0.0.1:1/impact"))
    await nowhere.worker.prepare()
    await nowhere.append(start(), start())
    for _ in range(3):
        with pytest.raises(Retry):
            await nowhere.worker.run_once()
    assert await nowhere.buffered() == 2
    assert await redis.xlen(keys.dead_letters(0)) == 0

    nowhere.worker._writer._database = database  # it is back
    assert await nowhere.worker.run_once() == Flushed(2, 0)
    assert await nowhere.buffered() == 0


class _Deaf(StreamReader):
    """Redis goes away between the commit and the acknowledgement, once."""

    failures = 1

    async def acknowledge(self, entries: Iterable[Entry]) -> int:
        if self.failures:
            self.failures -= 1
            raise Retry("redis_away", "for this test")
        return await super().acknowledge(entries)


async def test_what_is_committed_but_not_acknowledged_is_not_written_again(
    shards: OneServer, redis: Redis, database: Database
) -> None:
    """Else one accepted session would be counted as written and as a duplicate."""
    bench = Bench(shards, redis, database, _Deaf(shards, "one", 60))
    await bench.worker.prepare()
    await bench.append(start(), start())
    with pytest.raises(Retry):
        await bench.worker.run_once()
    await bench.append(start())
    assert await bench.worker.run_once() == Flushed(3, 0)
    assert (await bench.stored(), await bench.buffered()) == (3, 0)
    assert bench.counted("written", kind="session") == 3
    assert bench.counted("duplicate", kind="session") == 0


async def test_an_entry_that_two_flushers_had_is_counted_once(
    shards: OneServer, redis: Redis, database: Database, dsn: str
) -> None:
    """The first was frozen past the claim time, and goes on."""
    slow = Bench(shards, redis, database, StreamReader(shards, "slow", 60))
    await slow.worker.prepare()
    await slow.append(*(start() for _ in range(10)))
    await slow.worker._builder.fill()
    async with Database(dsn) as other:
        quick = Bench(shards, redis, other, StreamReader(shards, "quick", 0))
        assert await quick.worker.run_once() == Flushed(10, 0)
    await slow.append(start())
    assert await slow.worker.run_once() == Flushed(11, 0)
    assert await slow.stored() == 11
    written = [bench.counted("written", kind="session") for bench in (quick, slow)]
    duplicate = [bench.counted("duplicate", kind="session") for bench in (quick, slow)]
    assert (written, duplicate) == ([10, 1], [0, 0])


async def test_sessions_that_share_an_entry_are_stored_and_counted_each(bench: Bench) -> None:
    session = start()
    await bench.append_together(*(encode(event) for event in (session, start(), session)))
    await bench.append_together(encode(upgrade(session.id)), encode(start()))
    await bench.append(start())
    assert await bench.worker.run_once() == Flushed(3, 0)
    assert (await bench.stored(), await bench.buffered()) == (4, 0)
    assert bench.counted("written", kind="session") == 4
    assert bench.counted("written", kind="upgrade") == 1
    assert bench.counted("duplicate", kind="session") == 1


async def test_entries_that_turn_out_to_hold_many_sessions_make_no_huge_batch(bench: Bench) -> None:
    """As after an outage under load, when all that was read before held one each."""
    bench.worker._builder._max_rows = 320
    for _ in range(60):
        await bench.append_together(*(encode(start()) for _ in range(RECORDS_MAX)))
    while not bench.worker._builder.is_full:
        await bench.worker._builder.fill()
    assert bench.worker._builder.size <= 320


async def test_a_broken_record_is_set_aside_without_those_that_share_its_entry(
    bench: Bench,
) -> None:
    """The entry is split, and each of its records ends by itself."""
    await bench.append_together(encode(start()), b"\xff broken", encode(start()))
    await bench.append(start())
    assert await bench.worker.run_once() == Flushed(2, 0)
    assert (await bench.stored(), await bench.buffered()) == (1, 3)
    assert await bench.worker.run_once() == Flushed(3, 1)
    assert (await bench.stored(), await bench.buffered()) == (3, 0)
    assert bench.counted("written", kind="session") == 3
    assert bench.counted("duplicate", kind="session") == 0
    letters: Any = await bench.redis.xrange(keys.dead_letters(0))
    ((_, letter),) = letters
    assert letter[FIELD] == b"\xff broken"


async def test_a_row_that_postgres_refuses_is_set_aside_without_those_that_share_its_entry(
    bench: Bench,
) -> None:
    async with bench.database.connection() as connection:
        await connection.execute("ALTER TABLE sessions ADD CHECK (site <> 'refused.example.org')")
    refused = start(site="refused.example.org")
    await bench.append_together(encode(start()), encode(refused), encode(start()))
    await bench.append(start())
    assert await bench.worker.run_once() == Flushed(2, 0)
    assert await bench.worker.run_once() == Flushed(3, 1)
    assert (await bench.stored(), await bench.buffered()) == (3, 0)
    assert bench.counted("written", kind="session") == 3
    assert bench.counted("dead", reason="sqlstate_23514") == 1


# An insert that takes longer than any may; `{}`: of which rows.
SLOW = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
CREATE TRIGGER wait BEFORE INSERT ON sessions FOR EACH ROW {} EXECUTE FUNCTION wait()
"""


async def test_what_takes_too_long_is_set_aside_alone_and_the_rest_is_stored(
    shards: OneServer, redis: Redis, dsn: str
) -> None:
    """Before, the same batch was tried again, whole, for as long as that lasted."""
    async with Database(dsn, patience_seconds=2.0) as database:
        bench = Bench(shards, redis, database)
        await bench.worker.prepare()
        async with database.connection() as connection:
            await connection.execute(SLOW.format("WHEN (NEW.site = 'slow.example.org')"))
        await bench.append(*(start() for _ in range(20)), start(site="slow.example.org"))
        await bench.append(*(start() for _ in range(20)))
        assert await bench.worker.run_once() == Flushed(41, 1)
        assert (await bench.stored(), await bench.buffered()) == (40, 0)
        assert bench.counted("dead", reason="timed_out") == 1
        # What comes after it is stored as quickly as ever.
        await bench.append(*(start() for _ in range(20)))
        assert await bench.worker.run_once() == Flushed(20, 0)


async def test_when_the_server_is_slow_nothing_is_set_aside(
    shards: OneServer, redis: Redis, dsn: str
) -> None:
    async with Database(dsn, patience_seconds=0.2) as database:
        bench = Bench(shards, redis, database)
        await bench.worker.prepare()
        async with database.connection() as connection:
            await connection.execute(SLOW.format(""))
        await bench.append(*(start() for _ in range(5)))
        for _ in range(3):
            with pytest.raises(TimedOut):
                await bench.worker.run_once()
        async with database.connection() as connection:
            await connection.execute("DROP FUNCTION wait CASCADE")
        assert await bench.worker.run_once() == Flushed(5, 0)
        assert (await bench.stored(), await bench.buffered()) == (5, 0)
        assert await bench.redis.xlen(keys.dead_letters(0)) == 0


async def test_the_metric_of_what_waits_counts_sessions_and_not_entries(bench: Bench) -> None:
    await bench.append_together(*(encode(start()) for _ in range(5)))
    await bench.append(start())
    await Measuring(bench.reader, bench.metrics).measure()
    shown = bench.registry.get_sample_value("impact_stream_entries", {"shard": "0"})
    assert (shown, await bench.buffered()) == (6, 2)


async def test_a_helper_works_only_while_the_one_that_it_helps_is_behind(
    shards: OneServer, bench: Bench, dsn: str
) -> None:
    """And what it has in hand it ends, whatever the other does."""
    async with Database(dsn) as other:
        helper = Worker(
            StreamReader(shards, "helper", 60),
            SessionWriter(other, UTC),
            FlusherMetrics(CollectorRegistry()),
            SETTINGS,
            helps=bench.worker,
        )
        assert not helper._is_needed
        bench.worker._builder._max_rows = 8
        await bench.append(*(start() for _ in range(12)))
        await bench.worker.run_once()
        assert bench.worker.is_behind
        assert helper._is_needed
        await helper._builder.fill()
        await bench.worker.run_once()
        assert not bench.worker.is_behind
        assert helper._is_needed, "it has read something"
        await helper.run_once()
        assert not helper._is_needed
    assert (await bench.stored(), await bench.buffered()) == (12, 0)
