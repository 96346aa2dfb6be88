"""Months that are closed: counts stay, and of no session when it was, or which. And a month whose
partition is gone, by hand or since it was restored without it.
"""

import asyncio
import struct
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from redis.asyncio import Redis

from contract import keys
from contract.calendar import DAY_US, SECOND_US, Month, from_us
from contract.errors import Retry
from contract.record import FIELD, Event, SessionStarted, encode
from flusher.imports.earlier_sessions import Importable
from flusher.imports.line_batches import LineBatch
from flusher.imports.store import ImportWriter, Run
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database
from flusher.postgres.migrate import migrate
from flusher.postgres.write import SessionWriter
from tests.events import batch_of, start, upgrade
from tests.instant import MONTH, NOON_US, UTC
from tests.integration.importing import batch_of_lines
from tests.integration.keeping import A_SITE as SITE
from tests.integration.keeping import keeper_of, visit
from tests.live_counts import check_views
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres
from tests.system import System, eventually

ENDED = MONTH.plus(-2)
_SINCE_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def uuid7(at_us: int, number: int) -> bytes:
    """As a browser makes them: the milliseconds, then chance."""
    octets = bytearray((at_us // 1000).to_bytes(6) + sha256(number.to_bytes(2)).digest()[:10])
    octets[6] = octets[6] & 0x0F | 0x70
    octets[8] = octets[8] & 0x3F | 0x80
    return bytes(octets)


def of(month: Month, number: int) -> SessionStarted:
    """A session at some microsecond on one of three days, by one of seven people."""
    at_us = month.starts_us(UTC) + (9 + number % 3) * DAY_US + number * 7_919_123_457 % DAY_US
    seconds = (at_us - NOON_US) / SECOND_US
    visitor = bytes([number % 7 + 1]) * 16
    return start(uuid7(at_us, number), visitor=visitor, site=SITE, month=month, seconds=seconds)


RUN = Run(b"import", "earlier.csv")


def imported(*numbers: int) -> LineBatch:
    rules = Importable(SITE, UTC, MONTH, frozenset(), frozenset())
    lines = [f"{n},{n:064x},,{ENDED}-17T15:{n:02}:11.{n:06}Z" for n in numbers]
    return batch_of_lines(lines, RUN.tag, rules)


async def what_stays(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    """What is reported, and how many sessions each person has."""
    persons = await connection.fetch(
        "SELECT month, site, monthly_user_hash, highest_role, count(*) FROM sessions "
        "GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
    )
    return [*persons, *await check_views(connection)]


def traces(rows: Iterable[asyncpg.Record]) -> list[bytes]:
    """The ids and instants of sessions, as PostgreSQL has them in its files."""
    found = []
    for row in rows:
        found.append(row["id"].bytes)
        instants = [row["created_at"], row["upgraded_at"]]
        found += [
            struct.pack("=q", (instant - _SINCE_2000) // _MICROSECOND)
            for instant in instants
            if instant is not None
        ]
    return found


def files_with(folder: Path, wanted: list[bytes], *, since: Path) -> dict[str, int]:
    """How many of these each file holds that was written to since, but for the WAL."""
    found = {}
    began = since.stat().st_mtime_ns
    for file in folder.rglob("*"):
        if file.is_file() and "pg_wal" not in file.parts and file.stat().st_mtime_ns >= began:
            octets = file.read_bytes()
            number = sum(each in octets for each in wanted)
            if number:
                found[str(file.relative_to(folder))] = number
    return found


async def test_no_file_of_the_server_holds_an_ended_months_ids_or_instants(tmp_path: Path) -> None:
    """After VACUUM and a checkpoint. WAL excepted, which is kept as long as settings say."""
    with CopiedPostgres(tmp_path / "pg", settings=POSTGRES_SETTINGS) as server:
        dsn = server.dsn()
        connection = await asyncpg.connect(dsn)
        await migrate(connection, UTC)
        began = tmp_path / "began"
        began.touch()
        sessions = [of(ENDED, number) for number in range(1, 120)]
        async with Database(dsn) as database:
            writer = SessionWriter(database, UTC)
            await writer.write(batch_of(*sessions, *(of(MONTH, number) for number in range(50))))
            late = [
                upgrade(each.id, site=SITE, seconds=n) for n, each in enumerate(sessions[::5], 1)
            ]
            await writer.write(batch_of(*late))
            await connection.execute("ANALYZE flusher.sessions_" + str(ENDED).replace("-", "_"))
            before = await what_stays(connection)
            query = "SELECT * FROM sessions WHERE month = $1"
            rows = await connection.fetch(query, ENDED.first_day)
            await connection.execute("CHECKPOINT")
            data = tmp_path / "pg" / "cluster"
            assert files_with(data, traces(rows), since=began), "the search finds them"
            keeper = keeper_of(database, "hour")
            assert await keeper.close() == (ENDED.first_day,)
            # What the planner had sampled of them lies in a catalogue.
            await connection.execute("VACUUM FULL pg_statistic")
            await connection.execute("VACUUM")
            await connection.execute("CHECKPOINT")
            assert files_with(data, traces(rows), since=began) == {}
            assert await what_stays(connection) == before
            assert await check_counts(database) == []
            assert await keeper.close() == (), "once"
        await connection.close()


@pytest.mark.parametrize("keep", ["hour", "day"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
async def test_times_become_coarse_by_the_calendars_zone_and_ids_new(
    keep: str, zone: str, connection: asyncpg.Connection, database: Database
) -> None:
    await migrate(connection, ZoneInfo(zone))
    sessions = [of(ENDED, number) for number in range(60)]
    writer = SessionWriter(database, ZoneInfo(zone))
    upgrades = [upgrade(sessions[0].id, site=SITE)]
    await writer.write(batch_of(*sessions, *upgrades, of(MONTH, 1)))
    await ImportWriter(database, ZoneInfo(zone), RUN).write(imported(1))
    before = await what_stays(connection)
    keeper = keeper_of(database, keep)
    assert await keeper.close() == (ENDED.first_day,)
    assert await what_stays(connection) == before
    assert await check_counts(database) == []
    rows = await connection.fetch(
        "SELECT *, created_at AT TIME ZONE $2 AS local FROM sessions WHERE month = $1 "
        "ORDER BY ctid",
        ENDED.first_day,
        zone,
    )
    finest = "%H:%M:%S.%f" if keep == "day" else "%M:%S.%f"
    assert {row["local"].strftime(finest).strip("0:.") for row in rows} == {""}
    assert [UUID(bytes=row["id"].bytes).version for row in rows].count(4) == 60
    assert imported(1).keys[0] + RUN.tag in {row["id"].bytes for row in rows}
    assert not {row["id"].bytes for row in rows} & {each.id for each in sessions}
    order = [(row["site"], row["monthly_user_hash"], row["id"]) for row in rows]
    assert order == sorted(order)
    assert await connection.fetchval("SELECT count(*) FROM flusher.upgrades") == 0


async def test_an_import_into_a_closed_month_is_safe_to_repeat(
    connection: asyncpg.Connection, database: Database
) -> None:
    """What it adds becomes coarse when the month is closed again."""
    keeper = keeper_of(database, "hour")
    first, again = (ImportWriter(database, UTC, run) for run in (RUN, Run(b"second", "again")))
    assert len((await first.write(imported(1, 2))).new) == 2
    assert await keeper.close() == (ENDED.first_day,)
    assert (await again.write(imported(1, 2))).known == 2
    outcome = await again.write(imported(2, 3))
    assert (outcome.known, len(outcome.new)) == (1, 1)
    assert await keeper.close() == (ENDED.first_day,)
    assert await check_counts(database) == []
    times = await connection.fetch("SELECT DISTINCT created_at FROM sessions")
    wanted = datetime.fromisoformat(f"{ENDED}-17T15:00Z")
    assert [row["created_at"] for row in times] == [wanted]


async def test_a_flusher_closes_what_no_dead_letter_is_of(
    connection: asyncpg.Connection, writer: SessionWriter, redis: Redis, system: System
) -> None:
    """The real process, with the setting's default."""
    sessions = [of(ENDED, 1), of(ENDED.plus(-1), 1)]
    await writer.write(batch_of(*sessions))
    await redis.xadd(keys.dead_letters(0), {FIELD: encode(of(ENDED, 2)), "first_seen": 1})
    query = "SELECT created_at FROM sessions WHERE id = $1"
    await system.start("flusher")
    closed = UUID(bytes=sessions[1].id)
    await eventually(lambda: connection.fetchval(query, closed), lambda found: found is None)
    assert await connection.fetchval(query, UUID(bytes=sessions[0].id)) == from_us(
        sessions[0].at_us
    )
    months = await connection.fetch(
        "SELECT month, kept FROM flusher.months WHERE month < $1 ORDER BY 1", MONTH.first_day
    )
    assert [tuple(row) for row in months] == [
        (ENDED.plus(-1).first_day, "hour"),
        (ENDED.first_day, None),
    ]
    noted = await connection.fetch("SELECT month, site, dead_letters FROM data_quality")
    assert {tuple(row) for row in noted if row["dead_letters"]} == {(ENDED.first_day, SITE, 1)}


async def test_a_month_that_is_being_read_is_closed_later_and_delays_no_batch(
    connection: asyncpg.Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flusher.postgres.months._CLOSE_LOCK_TIMEOUT", "100ms")
    async with Database(dsn) as database, Database(dsn) as other:
        writer = SessionWriter(database, UTC)
        await writer.write(batch_of(of(ENDED, 1)))
        keeper = keeper_of(other, "hour")
        async with connection.transaction():
            await connection.fetch("SELECT * FROM sessions")
            assert await keeper.close() == ()
            await writer.write(batch_of(of(MONTH, 1)))
        (row,) = await connection.fetch("SELECT * FROM sessions WHERE month < $1", MONTH.first_day)
        assert row["created_at"] == from_us(of(ENDED, 1).at_us)
        assert await keeper.close() == (ENDED.first_day,)


async def test_a_crash_when_the_month_is_nearly_written_anew_leaves_it_as_it_was(
    connection: asyncpg.Connection, database: Database, writer: SessionWriter
) -> None:
    """It is closed the next time. The server's process ends when the rows are there anew, at the
    first of the upgrades that are kept.
    """
    ended, present = of(ENDED, 1), of(MONTH, 1)
    await writer.write(batch_of(ended, present, upgrade(present.id, site=SITE)))
    rows = "SELECT s, (SELECT array_agg(u.id) FROM flusher.upgrades u) FROM sessions s"
    before = await connection.fetch(rows)
    await connection.execute(
        "CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END';"
        "CREATE TRIGGER crash BEFORE INSERT ON flusher.upgrades "
        "FOR EACH ROW EXECUTE FUNCTION crash()"
    )
    keeper = keeper_of(database, "hour")
    with pytest.raises(Retry):
        await keeper.close()
    assert await connection.fetch(rows) == before
    await connection.execute("DROP FUNCTION crash CASCADE")
    assert await keeper.close() == (ENDED.first_day,)
    kept = await connection.fetchval("SELECT count(*) FROM flusher.upgrades")
    assert (kept, await check_counts(database)) == (1, [])


async def test_check_that_comes_while_a_month_is_being_closed_finds_it_right(
    connection: asyncpg.Connection, database: Database, writer: SessionWriter
) -> None:
    """A snapshot from before the closing would find the month empty."""
    await writer.write(batch_of(of(ENDED, 1)))
    async with asyncio.TaskGroup() as group, connection.transaction():
        close = "SELECT flusher.close_month($1, 'hour')"
        assert await connection.fetchval(close, ENDED.first_day)
        checking = group.create_task(check_counts(database))
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
        await eventually(lambda: connection.fetchval(waits))
    assert checking.result() == []


async def test_a_month_that_takes_too_long_is_not_tried_again_and_again(
    connection: asyncpg.Connection, dsn: str
) -> None:
    """Batches wait meanwhile. The month stays as it was."""
    session = of(ENDED, 1)
    async with Database(dsn) as brief, Database(dsn) as database:

        async def from_here_on_in_haste() -> float:
            async with brief.connection() as its:
                await its.execute("SET statement_timeout = '0.5s'")
            return 0.0

        await SessionWriter(database, UTC).write(batch_of(session))
        keeper = keeper_of(brief, "hour", oldest_entry=from_here_on_in_haste)
        async with connection.transaction():
            await connection.fetch("SELECT * FROM sessions")
            assert await keeper.close() == ()
        async with brief.connection() as its:
            await its.execute("RESET statement_timeout")
        assert await keeper.close() == ()
        (row,) = await connection.fetch("SELECT * FROM sessions")
        assert (row["id"].bytes, row["created_at"]) == (session.id, from_us(session.at_us))
        other = keeper_of(database, "hour")
        assert await other.close() == (ENDED.first_day,)


async def test_with_instant_a_closed_month_is_left_as_it_is(
    connection: asyncpg.Connection, database: Database, writer: SessionWriter
) -> None:
    session = of(ENDED, 1)
    await writer.write(batch_of(session))
    for keep, closed in (("instant", (ENDED.first_day,)), ("instant", ())):
        assert await keeper_of(database, keep).close() == closed
    (row,) = await connection.fetch("SELECT * FROM sessions")
    assert (row["id"].bytes, row["created_at"]) == (session.id, from_us(session.at_us))
    # The setting may become coarser, and never finer.
    for keep, closed in (("day", (ENDED.first_day,)), ("hour", ())):
        assert await keeper_of(database, keep).close() == closed


PARTITION = f"flusher.sessions_{MONTH.first_day:%Y_%m}"
A_ROW_OF_ANOTHER_MONTH = (
    "(gen_random_uuid(), '2001-01-01', 'x', gen_random_uuid(), NULL, now(), NULL)"
)
GONE = [f"DROP TABLE {PARTITION}", f"ALTER TABLE sessions DETACH PARTITION {PARTITION}"]


def started_in(month: Month) -> dict[Any, Any]:
    """A stream's entry."""
    return {FIELD: encode(visit(month, 1))}


@pytest.mark.parametrize("gone", GONE, ids=["dropped", "detached"])
@pytest.mark.parametrize("counted", ["not counted", "counted"])
@pytest.mark.parametrize(
    "looking", [[], [upgrade(None, visitor=b"v" * 16)]], ids=["stores", "looks for a visitor"]
)
async def test_it_is_made_again_and_the_counts_are_those_of_what_is_there(
    database: Database,
    writer: SessionWriter,
    connection: asyncpg.Connection,
    gone: str,
    counted: str,
    looking: list[Event],
) -> None:
    """A writer that knew it waits and goes on. Nothing that comes meanwhile is set aside."""
    await writer.write(batch_of(start(), start(role="user")))
    if counted == "counted":
        await keeper_of(database).fold()
    await connection.execute(gone)
    batch = batch_of(start(), *looking)
    with pytest.raises(Retry, match="created again"):
        await writer.write(batch)
    written = await writer.write(batch)
    assert (written.sessions, written.upgrades) == (1, len(looking))
    left = 1 if "DROP" in gone else 3
    assert await connection.fetchval("SELECT count(*) FROM sessions") == left
    await check_views(connection)
    assert await check_counts(database) == []


@pytest.mark.parametrize(
    "in_the_way",
    [
        [f"CREATE TABLE {PARTITION} (another integer)"],
        [
            f"SELECT flusher.create_month('{MONTH.first_day}')",
            GONE[1],
            f"INSERT INTO {PARTITION} VALUES {A_ROW_OF_ANOTHER_MONTH}",
        ],
    ],
    ids=["another table", "rows of another month"],
)
async def test_what_else_stands_in_a_months_way_is_no_sessions_fault(
    writer: SessionWriter, connection: asyncpg.Connection, in_the_way: list[str]
) -> None:
    for command in in_the_way:
        await connection.execute(command)
    with pytest.raises(Retry, match=rf"sessions_|{MONTH}"):
        await writer.write(batch_of(start()))


async def test_a_flusher_goes_on_while_it_is_gone_and_when_it_starts(
    system: System, connection: asyncpg.Connection, redis: Redis, this_month: Month
) -> None:
    partition = f"flusher.sessions_{this_month.first_day:%Y_%m}"

    stored = "SELECT count(*) FROM sessions"
    for _ in range(2):
        (flusher,) = await system.start("flusher")
        await eventually(lambda: connection.fetchval("SELECT to_regclass($1)", partition))
        await connection.execute(f"DROP TABLE {partition}")
        await redis.xadd(keys.stream(0), started_in(this_month))
        await eventually(lambda: connection.fetchval(stored), lambda number: number == 1)
        await connection.execute(f"DROP TABLE {partition}")
        assert await flusher.stop() == 0
    assert await redis.xlen(keys.dead_letters(0)) == 0


async def test_a_flusher_whose_present_month_was_dropped_says_so_and_flushes_the_others(
    system: System, connection: asyncpg.Connection, redis: Redis, this_month: Month
) -> None:
    """As a flusher does whose clock runs years ahead."""
    await connection.execute("SELECT flusher.create_month($1)", this_month.first_day)
    await connection.execute("UPDATE flusher.months SET closed_at = now(), dropped_at = now()")
    await connection.execute(f"DROP TABLE flusher.sessions_{this_month.first_day:%Y_%m}")
    (flusher,) = await system.start("flusher")
    await redis.xadd(keys.stream(0), started_in(this_month))
    await redis.xadd(keys.stream(0), started_in(this_month.plus(-1)))

    async def set_aside_and_stored() -> tuple[int, int]:
        stored = await connection.fetchval("SELECT count(*) FROM sessions")
        return await redis.xlen(keys.dead_letters(0)), int(stored)

    await eventually(set_aside_and_stored, lambda numbers: numbers == (1, 1))
    assert f"the sessions of {this_month} were dropped" in flusher.log
    assert await flusher.stop() == 0
