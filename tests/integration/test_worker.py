"""The worker between a real Valkey and a real PostgreSQL: what it stores and what it sets aside."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from contract import keys
from contract.calendar import SECOND_US, Month
from contract.entry import RECORDS_MAX, join_records
from contract.errors import DeadLetter, Retry
from contract.flusher_metrics import FlusherMetrics
from contract.record import FIELD, Event, encode
from flusher.postgres.database import Database
from flusher.postgres.match import REPEATED_WITHIN_US
from flusher.postgres.write import SessionWriter
from flusher.rows.batch import Entry, Undecodable
from flusher.stream import dead_letters
from flusher.stream.dead_letters import UNKNOWN_SITE, DeadLetters, Letter, set_aside
from flusher.stream.keeper import StreamKeeper
from flusher.stream.read import StreamReader
from flusher.worker import Flushed, Worker
from flusher.worker_settings import WorkerSettings
from runtime.shards import OneServer
from tests.events import start, upgrade
from tests.instant import MONTH, NOON_US, UTC
from tests.servers import Servers
from tests.system import fail_in_one_line, run_successfully
from tests.unit.steady import Pauses

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
        self.worker = Worker(self.reader, SessionWriter(database, UTC), self.metrics, SETTINGS)

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
def bench(shards: OneServer, redis: Redis, database: Database) -> Bench:
    return Bench(shards, redis, database)


async def test_a_worker_that_finds_nothing_has_succeeded_at_once(bench: Bench) -> None:
    """Its process is ready then: a deployment waits for that."""
    successes: list[float | None] = []
    pauses = Pauses(5, lambda _: successes.append(bench.worker.last_success))
    await bench.worker.run(pauses, lambda: None)
    assert successes[1] is not None


async def test_what_is_no_event_is_set_aside_and_its_neighbours_are_stored(bench: Bench) -> None:
    await bench.append(start())
    strange: list[dict[Any, Any]] = [{FIELD: b""}, {FIELD: b"\x01"}, {FIELD: b"\xff" * 80}]
    for fields in (*strange, {b"another": b"field"}):
        await bench.redis.xadd(keys.stream(0), fields)
    await bench.append(start())
    assert await bench.worker.run_once() == Flushed(6, 4)
    assert (await bench.stored(), await bench.buffered()) == (2, 0)
    assert await bench.redis.xlen(keys.dead_letters(0)) == 4
    assert bench.counted("dead", reason="undecodable") == 3
    assert bench.counted("dead", reason="unknown_version") == 1


async def refuse_a_site(bench: Bench) -> None:
    async with bench.database.connection() as connection:
        await connection.execute(
            "ALTER TABLE sessions ADD CONSTRAINT refused CHECK (site <> 'refused.example.org')"
        )


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
    assert await bench.worker.run_once() == Flushed(), "nothing is left"


async def test_entries_that_turn_out_to_hold_many_sessions_make_no_huge_batch(bench: Bench) -> None:
    """As after an outage under load, when all that was read before held one each."""
    bench.worker._builder._max_rows = 320
    for _ in range(60):
        await bench.append_together(*(encode(start()) for _ in range(RECORDS_MAX)))
    while not bench.worker._builder.is_full:
        await bench.worker._builder.fill()
    assert bench.worker._builder.size <= 320


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"\xff broken", "unknown_version"),
        (encode(start(site="refused.example.org")), "sqlstate_23514"),
    ],
    ids=["a broken record", "a row that PostgreSQL refuses"],
)
async def test_a_record_is_set_aside_without_those_that_share_its_entry(
    bench: Bench, bad: bytes, reason: str
) -> None:
    """The entry is split, and each of its records ends by itself."""
    await refuse_a_site(bench)
    await bench.append_together(encode(start()), bad, encode(start()))
    await bench.append(start())
    assert await bench.worker.run_once() == Flushed(2, 0)
    assert (await bench.stored(), await bench.buffered()) == (1, 3)
    assert await bench.worker.run_once() == Flushed(3, 1)
    assert (await bench.stored(), await bench.buffered()) == (3, 0)
    assert bench.counted("written", kind="session") == 3
    assert bench.counted("duplicate", kind="session") == 0
    assert bench.counted("dead", reason=reason) == 1
    (letter,) = await letters(bench.shards)
    assert letter.record == bad


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
        async with database.connection() as connection:
            await connection.execute(SLOW.format(""))
        await bench.append(*(start() for _ in range(5)))
        for _ in range(3):
            # TimedOut, or on a busy machine the connection's own limit, which is little longer.
            with pytest.raises(Retry):
                await bench.worker.run_once()
        async with database.connection() as connection:
            await connection.execute("DROP FUNCTION wait CASCADE")
        assert await bench.worker.run_once() == Flushed(5, 0)
        assert (await bench.stored(), await bench.buffered()) == (5, 0)
        assert await bench.redis.xlen(keys.dead_letters(0)) == 0


async def test_the_metrics_of_what_waits_count_sessions_and_dead_letters_and_not_entries(
    bench: Bench,
) -> None:
    """Whichever flusher set a dead letter aside."""
    await bench.append_together(*(encode(start()) for _ in range(5)))
    await bench.append(start())
    await bench.redis.xadd(keys.dead_letters(5), {"r": "x"})
    keeper = StreamKeeper(bench.reader, bench.reader, bench.metrics, 60)
    for letters in (1, 0):
        await keeper.run_once()
        shown = bench.registry.get_sample_value("impact_stream_entries", {"shard": "0"})
        assert (shown, await bench.buffered()) == (6, 2)
        assert bench.registry.get_sample_value("impact_dead_letters") == letters
        await bench.redis.delete(keys.dead_letters(5))


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


@pytest.fixture
def environment(embedded_servers: Servers, dsn: str) -> dict[str, str]:
    return {"REDIS_URL": embedded_servers.redis.url, "DATABASE_URL": dsn}


async def letters(shards: OneServer) -> list[Letter]:
    return [letter async for letter in DeadLetters(shards).all()]


async def test_of_which_months_and_sites_they_are(bench: Bench) -> None:
    """Those months are not closed: replayed, a repeat would be a second session. One within the
    first two days of a month may be a repeat of one of the month before.
    """
    await refuse_a_site(bench)
    middle, first_day = MONTH.plus(-2), MONTH.plus(-5)
    for month, days in ((middle, 9), (first_day, 0)):
        seconds = (month.starts_us(UTC) - NOON_US) / SECOND_US + days * 86_400
        await bench.append(start(site="refused.example.org", month=month, seconds=seconds))
    assert (await bench.worker.run_once()).dead == 2
    found = await DeadLetters(bench.shards).places(UTC, REPEATED_WITHIN_US)
    site = "refused.example.org"
    assert dict(found) == {(middle, site): 1, (first_day, site): 1, (first_day.plus(-1), site): 0}
    await bench.redis.xadd(keys.stream(0), {FIELD: b"?"})
    await bench.worker.run_once()
    more = await DeadLetters(bench.shards).places(UTC, REPEATED_WITHIN_US)
    (unknown, number), *_ = (more - found).items()
    assert (unknown[1], number) == (UNKNOWN_SITE, 1)
    assert unknown[0] >= MONTH, "it may be of the month in which it came"


@pytest.mark.parametrize(
    ("month", "at_us"), [(MONTH, 1 << 62), (Month(1, 1), NOON_US), (Month(1, 1), -(1 << 62))]
)
async def test_one_of_a_time_that_can_not_be_is_shown_and_holds_no_month(
    bench: Bench, environment: dict[str, str], month: Month, at_us: int
) -> None:
    """A flusher ended because of it, and each that was started after it."""
    await bench.append(replace(start(month=month), at_us=at_us))
    await bench.worker.run_once()
    (letter,) = await letters(bench.shards)
    shown = await run_successfully("flusher", "dead", "show", letter.name, **environment)
    assert "event:      none: not a record" in shown
    zone = ZoneInfo("Asia/Tokyo")
    found = await DeadLetters(bench.shards).places(zone, REPEATED_WITHIN_US)
    assert (found.total(), {site for _, site in found}) == (1, {UNKNOWN_SITE})


async def test_an_operator_lists_shows_replays_and_drops_them(
    bench: Bench, environment: dict[str, str]
) -> None:
    """All that is known of one is kept. One that fails again comes back with its history, and one
    that does not becomes a row once.
    """

    async def run(*words: str) -> str:
        return await run_successfully("flusher", *words, **environment)

    session = start(site="refused.example.org")
    await refuse_a_site(bench)
    await bench.append(session, session)  # each entry by itself
    await bench.redis.xadd(keys.stream(3), {FIELD: b"\xff" * 9})
    await bench.worker.run_once()
    assert "dead letters:                 3" in await run("status")
    *refused, broken = await letters(bench.shards)
    assert [each.record for each in refused] == [encode(session)] * 2
    assert (broken.shard, broken.reason, broken.attempts) == (3, "unknown_version", 1)
    assert broken.first_seen.startswith("20")
    assert broken.entry
    listed = await run("dead", "list")
    assert all(each.name in listed and each.reason in listed for each in (broken, *refused))
    shown = await run("dead", "show", broken.name)
    assert "ffffffffffffffffff" in shown
    assert "shard:      3" in shown

    await run("dead", "replay", broken.name)
    await bench.worker.run_once()
    *stay, again = await letters(bench.shards)
    assert stay == refused
    assert (again.record, again.first_seen) == (broken.record, broken.first_seen)
    assert again.attempts == broken.attempts + 1
    await run("dead", "drop", again.name)
    async with bench.database.connection() as connection:
        await connection.execute("ALTER TABLE sessions DROP CONSTRAINT refused")
    assert (await run("dead", "replay")).count("replayed") == 2
    await bench.worker.run_once()
    assert await bench.stored() == 1
    assert await letters(bench.shards) == []


async def test_an_unknown_one_is_one_clear_line(environment: dict[str, str]) -> None:
    for words in (
        *(("show", "0:1-1"), ("replay", "0:1-1"), ("drop", "0:1-1")),
        *(("show", "99:1-1"), ("show", "nonsense"), ("show", "0:\u0663-1")),
        *(("show", f"0:{2**64}-1"), ("replay", f"0:1-{2**64}"), ("drop", f"0:{2**64}-1")),
    ):
        errors = await fail_in_one_line(2, "flusher", "dead", *words, **environment)
        assert f"there is no dead letter '{words[1]}'" in errors


async def test_they_are_bounded_and_the_newest_stay(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "DEAD_LETTERS_KEPT", 3)
    for number in range(5):
        await bench.redis.xadd(keys.stream(0), {FIELD: b"%d" % number})
    for entry in await bench.reader.read(100):
        await set_aside(bench.shards, bench.metrics, Undecodable(entry, DeadLetter("test", "")))
    assert (bench.counted("dead", reason="test"), bench.counted("dead_dropped")) == (5, 2)
    assert [letter.record for letter in await letters(bench.shards)] == [b"2", b"3", b"4"]


async def test_a_flusher_that_starts_drains_a_full_redis_past_a_poisoned_entry(
    bench: Bench,
) -> None:
    """There is no room for the dead letter until its neighbours are stored and gone, nor for the
    group, which an earlier flusher has created.
    """
    await StreamReader(bench.shards, "earlier", 60).read(1)
    await bench.redis.xadd(keys.stream(0), {FIELD: b"broken"})
    await bench.append(*(start() for _ in range(50)))
    info: Any = await bench.redis.info("memory")
    await bench.redis.config_set("maxmemory", info["used_memory"] // 2)
    try:
        with pytest.raises(Retry, match="maxmemory"):
            await bench.worker.run_once()
        assert await bench.stored() == 50
        assert await bench.buffered() == 1
    finally:
        await bench.redis.config_set("maxmemory", 0)
    await bench.worker.run_once()
    assert len(await letters(bench.shards)) == 1
    assert await bench.buffered() == 0
