"""Dead letters: kept whole, shown, replayed through the same deduplication, dropped, bounded."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from redis.asyncio import Redis

from contract import keys
from contract.calendar import SECOND_US
from contract.errors import DeadLetter, Retry
from contract.record import FIELD, encode
from flusher.postgres.database import Database
from flusher.postgres.match import REPEATED_WITHIN_US
from flusher.stream import read
from flusher.stream.dead_letters import UNKNOWN_SITE, DeadLetters, Letter
from flusher.stream.read import StreamReader
from runtime.shards import OneServer
from tests.events import start
from tests.instant import MONTH, NOON_US
from tests.integration.test_worker import Bench
from tests.servers import Servers
from tests.system import run_command

SHARDS = 8


@pytest.fixture
async def bench(shards: OneServer, redis: Redis, database: Database) -> Bench:
    bench = Bench(shards, redis, database, StreamReader(shards, "one", 60))
    await bench.worker.prepare()
    return bench


@pytest.fixture
def environment(embedded_servers: Servers, dsn: str) -> dict[str, str]:
    return {"REDIS_URL": embedded_servers.redis.url, "DATABASE_URL": dsn}


async def letters(shards: OneServer) -> list[Letter]:
    return [letter async for letter in DeadLetters(shards).all()]


async def refuse(bench: Bench, site: str) -> None:
    async with bench.database.connection() as connection:
        await connection.execute(
            f"ALTER TABLE sessions ADD CONSTRAINT refused CHECK (site <> '{site}')"
        )


async def allow(bench: Bench) -> None:
    async with bench.database.connection() as connection:
        await connection.execute("ALTER TABLE sessions DROP CONSTRAINT refused")


async def test_of_which_months_and_sites_they_are(bench: Bench) -> None:
    """Those months are not closed: replayed, a repeat would be a second session. One within the
    first two days of a month may be a repeat of one of the month before.
    """
    zone = ZoneInfo("UTC")
    await refuse(bench, "refused.example.org")
    middle, first_day = MONTH.plus(-2), MONTH.plus(-5)
    for month, days in ((middle, 9), (first_day, 0)):
        seconds = (month.starts_us(zone) - NOON_US) / SECOND_US + days * 86_400
        await bench.append(start(site="refused.example.org", month=month, seconds=seconds))
    assert (await bench.worker.run_once()).dead == 2
    found = await DeadLetters(bench.shards).places(zone, REPEATED_WITHIN_US)
    months = {middle: 1, first_day: 1, first_day.plus(-1): 0}
    site = "refused.example.org"
    assert dict(found) == {(month, site): number for month, number in months.items()}
    await bench.redis.xadd(keys.stream(0), {FIELD: b"?"})
    await bench.worker.run_once()
    more = await DeadLetters(bench.shards).places(zone, REPEATED_WITHIN_US)
    (of_nobody_knows, number), *_ = (more - found).items()
    assert (of_nobody_knows[1], number) == (UNKNOWN_SITE, 1)
    assert of_nobody_knows[0] >= MONTH, "it may be of the month in which it came"


async def test_everything_known_of_it_is_kept(bench: Bench) -> None:
    session = start(site="refused.example.org")
    await refuse(bench, "refused.example.org")
    await bench.append(session)
    await bench.worker.run_once()
    (letter,) = await letters(bench.shards)
    assert letter.record == encode(session)
    assert (letter.shard, letter.reason, letter.attempts) == (0, "sqlstate_23514", 1)
    assert letter.first_seen.startswith("20")
    assert letter.entry


async def test_it_can_be_listed_and_shown(bench: Bench, environment: dict[str, str]) -> None:
    await bench.redis.xadd(keys.stream(3), {FIELD: b"\xff" * 9})
    await bench.worker.run_once()
    (letter,) = await letters(bench.shards)
    code, output, errors = await run_command("flusher", "dead", "list", **environment)
    assert (code, errors) == (0, "")
    assert letter.name in output
    assert "unknown_version" in output
    code, output, errors = await run_command("flusher", "dead", "show", letter.name, **environment)
    assert (code, errors) == (0, "")
    assert "ffffffffffffffffff" in output
    assert "shard:      3" in output
    code, output, _ = await run_command("flusher", "status", **environment)
    assert code == 0
    assert "dead letters:                 1" in output


async def test_a_replayed_one_becomes_a_row_once(bench: Bench, environment: dict[str, str]) -> None:
    session = start(site="refused.example.org")
    await refuse(bench, "refused.example.org")
    await bench.append(session)
    await bench.append(session)
    await bench.worker.run_once()
    assert len(await letters(bench.shards)) == 2, "each entry by itself"
    await allow(bench)
    code, output, errors = await run_command("flusher", "dead", "replay", **environment)
    assert (code, output.count("replayed")) == (0, 2), errors
    await bench.worker.run_once()
    assert await bench.stored() == 1
    assert await letters(bench.shards) == []


async def test_one_that_fails_again_comes_back_with_its_history(
    bench: Bench, environment: dict[str, str]
) -> None:
    await bench.redis.xadd(keys.stream(3), {FIELD: b"broken"})
    await bench.worker.run_once()
    (first,) = await letters(bench.shards)
    await run_command("flusher", "dead", "replay", first.name, **environment)
    await bench.worker.run_once()
    (again,) = await letters(bench.shards)
    assert (again.record, again.first_seen) == (first.record, first.first_seen)
    assert again.attempts == first.attempts + 1


async def test_a_dropped_one_is_gone(bench: Bench, environment: dict[str, str]) -> None:
    for _ in range(2):
        await bench.redis.xadd(keys.stream(3), {FIELD: b"broken"})
    await bench.worker.run_once()
    gone, stays = await letters(bench.shards)
    code, _, errors = await run_command("flusher", "dead", "drop", gone.name, **environment)
    assert (code, errors) == (0, "")
    assert await letters(bench.shards) == [stays]


@pytest.mark.parametrize("verb", ["show", "replay", "drop"])
@pytest.mark.parametrize("name", ["0:1-1", "99:1-1", "nonsense"])
async def test_an_unknown_one_is_one_clear_line(
    environment: dict[str, str], verb: str, name: str
) -> None:
    code, output, errors = await run_command("flusher", "dead", verb, name, **environment)
    assert (code, output) == (2, "")
    assert errors.count("\n") == 1
    assert f"there is no dead letter '{name}'" in errors


async def test_they_are_bounded_and_the_newest_stay(
    shards: OneServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "DEAD_LETTERS_KEPT", 3)
    reader = StreamReader(shards, "one", 60)
    await reader.create_groups()
    for number in range(5):
        await redis.xadd(keys.stream(0), {FIELD: b"%d" % number})
    dropped = [await reader.dead_letter(e, DeadLetter("test", "")) for e in await reader.read(100)]
    assert dropped == [(True, 0), (True, 0), (True, 0), (True, 1), (True, 1)]
    assert [letter.record for letter in await letters(shards)] == [b"2", b"3", b"4"]


async def test_a_full_redis_is_drained_past_a_poisoned_entry(bench: Bench) -> None:
    """There is no room for the dead letter until its neighbours are stored and gone."""
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
