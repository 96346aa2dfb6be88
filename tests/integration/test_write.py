"""The writer on a real PostgreSQL."""

import asyncio
import uuid
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from contract.calendar import SECOND_US, to_us
from contract.errors import DeadLetter, Retry
from contract.record import Event, SaltMade
from flusher.postgres import locks
from flusher.postgres.database import Database
from flusher.postgres.locks import Lock
from flusher.postgres.write import SessionWriter, Written
from tests.events import SITE, batch_of, start, upgrade
from tests.instant import MONTH, NOON_US
from tests.system import eventually

UTC = ZoneInfo("UTC")


async def rows(database: Database) -> list[asyncpg.Record]:
    async with database.connection() as connection:
        return list(await connection.fetch("SELECT * FROM sessions ORDER BY created_at"))


async def test_a_batch_that_is_written_twice_is_stored_once(
    database: Database, writer: SessionWriter
) -> None:
    """A crash between commit and acknowledgement brings the same entries again."""
    batch = batch_of(*(start(seconds=n) for n in range(10)), upgrade(b"x" * 16))
    assert await writer.write(batch) == Written(10, 1, 0, 0)
    before = await rows(database)
    assert await writer.write(batch) == Written(0, 0, 10, 1)
    assert await rows(database) == before


def salt_made(outcome: str, seconds: float = 0) -> SaltMade:
    """Some seconds after noon."""
    at_us = NOON_US + int(seconds * SECOND_US)
    return SaltMade(uuid.uuid4().bytes, MONTH, at_us, outcome)


async def noted(database: Database) -> list[str]:
    async with database.connection() as connection:
        found = await connection.fetch("SELECT outcome FROM flusher.salts ORDER BY made_at")
        return [row["outcome"] for row in found]


@pytest.mark.parametrize(
    ("events", "outcomes"),
    [
        pytest.param([("first", 0)], ["first"], id="a new installation"),
        pytest.param([("first", 0), ("first", 60)], ["first", "lost"], id="a second one"),
        pytest.param([("rotated", 0), ("first", 60)], ["rotated", "lost"], id="after a rotation"),
        pytest.param([("first", 0), ("restored", 60)], ["first", "restored"], id="put back"),
        pytest.param([("first", 0), ("replaced", 60)], ["first", "replaced"], id="replaced"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_a_months_second_first_salt_is_noted_as_lost(
    database: Database,
    writer: SessionWriter,
    events: list[tuple[str, float]],
    outcomes: list[str],
    *,
    together: bool,
) -> None:
    """The salt's server had lost all that it knew. A repeat is noted once, and told once."""
    made = [salt_made(*event) for event in events]
    batches = [batch_of(*made)] if together else [batch_of(each) for each in made]
    lost = [month for batch in batches for month in (await writer.write(batch)).salts_lost]
    assert await noted(database) == outcomes
    twice = [outcome for outcome in outcomes if outcome in ("lost", "replaced")]
    assert lost == [MONTH.first_day for _ in twice]
    for batch in batches:
        assert (await writer.write(batch)).salts_lost == ()
    assert await noted(database) == outcomes


@pytest.mark.parametrize("together", [True, False])
async def test_a_first_salt_after_sessions_of_its_month_is_noted_as_lost(
    database: Database, writer: SessionWriter, *, together: bool
) -> None:
    """Though nobody had told of the one before."""
    events: list[Event] = [start(), salt_made("first", 5), start(seconds=6)]
    for batch in [batch_of(*events)] if together else [batch_of(each) for each in events]:
        await writer.write(batch)
    assert await noted(database) == ["lost"]


async def test_a_first_salt_before_all_sessions_of_its_month_is_the_first(
    database: Database, writer: SessionWriter
) -> None:
    await writer.write(batch_of(start(seconds=6)))
    await writer.write(batch_of(salt_made("first", 5)))
    assert await noted(database) == ["first"]


async def test_what_is_new_beside_a_repeat_is_stored(
    database: Database, writer: SessionWriter
) -> None:
    known, new = start(), start()
    await writer.write(batch_of(known))
    assert await writer.write(batch_of(known, new)) == Written(1, 0, 1, 0)
    assert {row["id"].bytes for row in await rows(database)} == {known.id, new.id}


async def test_an_earlier_copy_that_comes_later_keeps_the_upgrade(
    database: Database, writer: SessionWriter
) -> None:
    late, early = start(b"s" * 16, seconds=5), start(b"s" * 16, seconds=1)
    await writer.write(batch_of(late, upgrade(late.id)))
    await writer.write(batch_of(early))
    (row,) = await rows(database)
    assert to_us(row["created_at"]) == early.at_us
    assert (row["highest_role"], row["monthly_user_hash"].bytes) == ("user", b"u" * 16)


async def test_an_earlier_copy_of_another_visitor_gives_back_the_upgrade_of_current(
    database: Database, writer: SessionWriter
) -> None:
    """It was that of the visitor who asked, and takes the next session of that one."""
    late, early = start(b"s" * 16, seconds=5), start(b"s" * 16, seconds=1, visitor=b"w" * 16)
    await writer.write(batch_of(late, upgrade(None, visitor=late.monthly_user_hash)))
    await writer.write(batch_of(early))
    (row,) = await rows(database)
    assert (row["highest_role"], row["monthly_user_hash"].bytes) == (None, b"w" * 16)
    assert await writer.count_waiting() == 1
    await writer.write(batch_of(start(seconds=3)))
    assert [row["highest_role"] for row in await rows(database)] == [None, "user"]
    assert await writer.count_waiting() == 0


async def test_a_session_sent_again_after_its_months_end_is_one_session(
    database: Database, writer: SessionWriter
) -> None:
    """Whichever of the two months comes first."""
    end_us = MONTH.ends_us(UTC)
    seconds = (end_us - NOON_US) / 1e6
    for name in (b"1", b"2"):
        before = start(name * 16, seconds=seconds - 1)
        after = start(name * 16, seconds=seconds + 1, month=MONTH.plus(1), visitor=b"w" * 16)
        pair = [before, after] if name == b"1" else [after, before]
        total = [await writer.write(batch_of(event)) for event in pair]
        assert [written.sessions for written in total] == [1, 0]
        assert [written.duplicate_sessions for written in total] == [0, 1]
    assert {row["month"] for row in await rows(database)} == {MONTH.first_day}


async def test_a_copy_of_the_next_month_leaves_the_upgrade_known(
    database: Database, writer: SessionWriter
) -> None:
    """Else an earlier copy, coming last, could not tell whose upgrade the row shows."""
    end = (MONTH.ends_us(UTC) - NOON_US) / 1e6
    middle = start(b"s" * 16, seconds=end - 1)
    await writer.write(batch_of(middle, upgrade(b"s" * 16, seconds=end - 1)))
    await writer.write(batch_of(start(b"s" * 16, seconds=end + 1, month=MONTH.plus(1))))
    first = start(b"s" * 16, seconds=end - 2)
    await writer.write(batch_of(first))
    (row,) = await rows(database)
    assert (to_us(row["created_at"]), row["highest_role"]) == (first.at_us, "user")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("waiting", [False, True])
async def test_of_two_upgrades_in_one_batch_the_earlier_stays(
    order: tuple[int, int],
    waiting: bool,  # noqa: FBT001 - a parameter of the test
    database: Database,
    writer: SessionWriter,
) -> None:
    """Whether their session is there or comes after them."""
    session = start()
    both = [
        upgrade(session.id, seconds=60 + n, role=role) for n, role in enumerate(["admin", "user"])
    ]
    batches = [batch_of(session), batch_of(*(both[n] for n in order))]
    for batch in reversed(batches) if waiting else batches:
        await writer.write(batch)
    (row,) = await rows(database)
    assert (row["highest_role"], to_us(row["upgraded_at"])) == ("admin", both[0].at_us)


@pytest.mark.parametrize(("seconds", "role"), [(59, "admin"), (60, "user"), (61, "user")])
async def test_only_an_earlier_upgrade_comes_before_one_that_is_forgotten(
    seconds: int, role: str, database: Database, writer: SessionWriter
) -> None:
    """The session still shows when that was."""
    session = start()
    await writer.write(batch_of(session, upgrade(session.id, seconds=60)))
    async with database.connection() as connection:
        await connection.execute("DELETE FROM flusher.upgrades")
    await writer.write(batch_of(upgrade(session.id, seconds=seconds, role="admin")))
    (row,) = await rows(database)
    assert row["highest_role"] == role


async def test_a_session_finds_its_upgrade_among_however_many_that_wait(
    database: Database, writer: SessionWriter
) -> None:
    """Beyond a thousand they are not all looked at."""
    sessions = [start() for _ in range(1100)]
    await writer.write(batch_of(*(upgrade(session.id) for session in sessions)))
    assert await writer.write(batch_of(*sessions[-3:], start())) == Written(4, 0, 0, 0)
    assert sorted(str(row["highest_role"]) for row in await rows(database)) == [
        "None",
        *["user"] * 3,
    ]
    assert await writer.count_waiting() == 1097


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("at_once", [False, True])
async def test_of_two_upgrades_of_one_instant_the_same_stays_in_whatever_order_they_come(
    order: tuple[int, int],
    at_once: bool,  # noqa: FBT001 - a parameter of the test
    database: Database,
    writer: SessionWriter,
) -> None:
    """By their ids, in one batch as in two."""
    session = start()
    both = sorted((upgrade(session.id, role=role) for role in ("a", "b")), key=lambda u: u.id)
    events = [both[n] for n in order]
    await writer.write(batch_of(session))
    for batch in [batch_of(*events)] if at_once else map(batch_of, events):
        await writer.write(batch)
    (row,) = await rows(database)
    assert row["highest_role"] == both[0].role


async def test_an_upgrade_of_a_session_that_is_in_two_months_takes_the_earlier(
    database: Database, writer: SessionWriter
) -> None:
    """Sent again a month later, which nobody looks for any more: it is still one upgrade."""
    first = start(b"s" * 16, month=MONTH.plus(-1), seconds=-20 * 86400)
    second = start(b"s" * 16)
    assert await writer.write(batch_of(first)) == Written(1, 0, 0, 0)
    assert await writer.write(batch_of(second)) == Written(1, 0, 0, 0)
    assert await writer.write(batch_of(upgrade(b"s" * 16))) == Written(0, 1, 0, 0)
    assert [row["highest_role"] for row in await rows(database)] == ["user", None]


async def test_a_session_and_its_upgrade_that_two_flushers_store_at_once_find_each_other(
    dsn: str, database: Database
) -> None:
    """Neither sees the other's transaction before its own is nearly over."""
    async with Database(dsn) as other:
        writers = SessionWriter(database, UTC), SessionWriter(other, UTC)
        for _ in range(20):
            starts = [start() for _ in range(50)]
            upgrades = [upgrade(started.id) for started in starts]
            await asyncio.gather(
                writers[0].write(batch_of(*starts)), writers[1].write(batch_of(*upgrades))
            )
    assert {row["highest_role"] for row in await rows(database)} == {"user"}


async def test_two_flushers_with_the_same_entries_store_each_once(
    dsn: str, database: Database
) -> None:
    """One was frozen for so long that another took its entries over."""
    batch = batch_of(*(start(seconds=n) for n in range(200)))
    async with Database(dsn) as other:
        writers = SessionWriter(database, UTC), SessionWriter(other, UTC)
        written = await asyncio.gather(*(writer.write(batch) for writer in writers))
    assert sum(each.sessions for each in written) == 200
    assert sum(each.duplicate_sessions for each in written) == 200
    assert len(await rows(database)) == 200


async def test_a_merge_waits_for_who_stores_and_never_the_other_way_round(
    writer: SessionWriter, dsn: str
) -> None:
    """Else each would wait for the other, and PostgreSQL end one of them after a second."""
    known, new = start(b"k" * 16), start(b"n" * 16)  # copied in this order
    await writer.write(batch_of(known))
    other = await asyncpg.connect(dsn)
    async with other.transaction():  # a batch that is copied, and not yet matched
        await locks.share(other, Lock.SESSIONS)
        await other.execute(
            "INSERT INTO sessions SELECT $1, month, site, monthly_user_hash, NULL, created_at "
            "FROM sessions",
            UUID(bytes=new.id),
        )
        merging = asyncio.create_task(writer.write(batch_of(known, new)))

        async def waits() -> int:
            query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            return int(await other.fetchval(query))

        await eventually(waits)
        await asyncio.wait_for(locks.take(other, Lock.UPGRADES), 30)
    assert await merging == Written(0, 0, 2, 0)
    await other.close()


async def test_a_refused_row_is_the_rows_fault_and_stores_nothing(
    database: Database, writer: SessionWriter
) -> None:
    async with database.connection() as connection:
        await connection.execute("ALTER TABLE sessions ADD CHECK (site <> 'refused.example.org')")
    with pytest.raises(DeadLetter):
        await writer.write(batch_of(start(), start(site="refused.example.org")))
    assert await rows(database) == []
    await writer.write(batch_of(start()))
    assert len(await rows(database)) == 1, "the connection is good for the next batch"


async def test_a_lost_connection_is_nobodys_fault(
    database: Database, writer: SessionWriter, dsn: str
) -> None:
    """In mid-transaction: nothing of the batch is stored, and it may be tried again."""
    other = await asyncpg.connect(dsn)
    await other.execute("SELECT pg_advisory_lock(hashtextextended('flusher.upgrades', 0))")
    batch = batch_of(start())
    writing = asyncio.create_task(writer.write(batch))

    async def end_whoever_waits() -> int:
        return int(
            await other.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_locks "
                "WHERE locktype = 'advisory' AND NOT granted"
            )
        )

    await eventually(end_whoever_waits)
    with pytest.raises(Retry):
        await writing
    await other.close()
    assert await rows(database) == []
    assert await writer.write(batch) == Written(1, 0, 0, 0)


async def test_what_can_not_matter_any_more_is_forgotten(
    database: Database, writer: SessionWriter
) -> None:
    """Decided upgrades after an hour, waiting ones after two days, and those are counted."""
    session = start()
    await writer.write(batch_of(session, upgrade(session.id), upgrade(b"x" * 16)))
    assert await writer.count_waiting() == 1
    for age, left, given_up in (("50 minutes", 2, 0), ("2 hours", 1, 0), ("49 hours", 0, 1)):
        async with database.connection() as connection:
            await connection.execute(
                "UPDATE flusher.upgrades SET stored_at = now() - $1::text::interval", age
            )
        assert await writer.purge() == given_up
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT count(*) FROM flusher.upgrades") == left


async def test_partitions_are_made_once_by_however_many(dsn: str) -> None:
    async def create() -> None:
        async with Database(dsn) as own:
            await SessionWriter(own, UTC).create_months(MONTH.plus(n) for n in range(12))

    await asyncio.gather(*(create() for _ in range(5)))
    connection = await asyncpg.connect(dsn)
    partitions = await connection.fetchval(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'sessions'::regclass"
    )
    await connection.close()
    assert partitions == 12


async def test_an_upgrade_finds_a_page_that_was_left_open_for_months(
    database: Database, writer: SessionWriter
) -> None:
    session = start(month=MONTH.plus(-5), seconds=-150 * 86400)
    await writer.write(batch_of(session))
    await writer.write(batch_of(upgrade(session.id)))
    (row,) = await rows(database)
    assert (row["highest_role"], row["site"]) == ("user", SITE)
    assert row["monthly_user_hash"].bytes == session.monthly_user_hash, "that month's salt is gone"


async def test_a_months_user_hash_is_never_stored_beside_an_earlier_months_session(
    dsn: str, writer: SessionWriter
) -> None:
    """It would tell which user of this month was which visitor of the one before: for an upgrade
    that is applied, and for others of its session, in one batch and later; and for one that came
    before its session.
    """
    sessions = [
        start(name * 16, month=MONTH.plus(-1), seconds=-20 * 86400) for name in (b"1", b"2")
    ]
    ada, bob = b"a" * 16, b"b" * 16
    await writer.write(batch_of(upgrade(sessions[1].id, user=ada)))
    await writer.write(batch_of(*sessions))
    first, others = sessions[0].id, [upgrade(sessions[0].id, user=bob, seconds=n) for n in (61, 62)]
    await writer.write(batch_of(upgrade(first, user=ada, seconds=60), others[0]))
    await writer.write(batch_of(others[1]))
    await writer.write(batch_of(upgrade(first, user=ada, seconds=59)))
    connection = await asyncpg.connect(dsn)
    kept = await connection.fetch("SELECT outcome, user_hash FROM flusher.upgrades ORDER BY 1")
    outcomes = ["applied"] * 2 + ["superseded"] * 3
    assert [tuple(row) for row in kept] == [(outcome, None) for outcome in outcomes]
    with pytest.raises(asyncpg.CheckViolationError, match="no_link_across_months"):
        await connection.execute("UPDATE flusher.upgrades SET user_hash = gen_random_uuid()")
    await connection.close()


@pytest.mark.parametrize("gone", [True, False], ids=["dropped", "found in another month, too"])
async def test_of_an_upgrade_from_a_later_month_the_user_is_forgotten_and_its_batch_stored(
    database: Database, *, gone: bool
) -> None:
    """Whatever else comes of that session: there is nobody whose it could become."""
    session = bytes([0xAA]) * 16
    writer = SessionWriter(database, UTC)
    earlier = MONTH.plus(-9)
    await writer.write(batch_of(start(session, month=earlier, seconds=-270 * 86400)))
    await writer.write(batch_of(upgrade(session)))
    async with database.connection() as connection:
        if gone:
            await connection.execute("UPDATE flusher.months SET closed_at = now()")
            await connection.execute("SELECT flusher.drop_month($1)", earlier.first_day)
    again = () if gone else (start(session),)
    written = await writer.write(batch_of(upgrade(session, seconds=90, user=b"w" * 16), *again))
    assert written.sessions == len(again)
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT outcome, user_hash FROM flusher.upgrades")
    assert ("applied", None) in [tuple(row) for row in rows]


@pytest.mark.parametrize(
    "fault",
    [
        asyncpg.InternalClientError("cannot switch to state 11; another operation is in progress"),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_a_connection_in_an_unknown_state_is_not_used_again(
    database: Database, fault: Exception
) -> None:
    """Nor does it end the process: a flusher was seen to die of the first of these."""
    async with database.connection() as connection:
        before = connection
    with pytest.raises(Retry):
        async with database.connection():
            raise fault
    async with database.connection() as connection:
        assert connection is not before
        assert await connection.fetchval("SELECT 1") == 1


async def test_upgrades_that_come_second_are_told_by_whether_the_user_is_another(
    writer: SessionWriter,
) -> None:
    """Together, later, before those that were first, and never where it is the same user."""
    ada, bob = b"a" * 16, b"b" * 16
    sessions = [bytes([number]) * 16 for number in range(1, 5)]
    starts = [start(session) for session in sessions]
    together = [upgrade(sessions[0], user=ada), upgrade(sessions[0], user=bob, seconds=61)]
    once = [upgrade(session, user=ada) for session in sessions[1:]]
    written = await writer.write(batch_of(*starts, *together, *once))
    assert written.upgrades_of_others == 1
    same = upgrade(sessions[1], user=ada, seconds=70)
    later, earlier = (
        upgrade(sessions[2], user=bob, seconds=70),
        upgrade(sessions[3], user=bob, seconds=50),
    )
    written = await writer.write(batch_of(same, later, earlier))
    assert written.upgrades_of_others == 2
    assert (await writer.write(batch_of(same, later, earlier))).upgrades_of_others == 0
