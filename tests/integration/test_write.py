"""The writer on a real PostgreSQL."""

import asyncio
import uuid
from uuid import UUID

import asyncpg
import pytest

from contract.calendar import SECOND_US
from contract.errors import Retry
from contract.record import Event, SaltMade, SessionStarted
from flusher.postgres import locks
from flusher.postgres.database import Database
from flusher.postgres.locks import Lock
from flusher.postgres.write import SessionWriter, Written
from tests.events import batch_of, start, upgrade
from tests.instant import MONTH, NOON_US, UTC
from tests.model import as_rows, rows_after
from tests.system import eventually


async def rows(database: Database) -> list[asyncpg.Record]:
    async with database.connection() as connection:
        return list(await connection.fetch("SELECT * FROM sessions ORDER BY created_at"))


END = (MONTH.ends_us(UTC) - NOON_US) / 1e6  # seconds after noon
S = b"s" * 16
BEFORE_END, AFTER_END = start(S, seconds=END - 1), start(S, seconds=END + 1, month=MONTH.plus(1))
OPEN_FOR_MONTHS = start(S, month=MONTH.plus(-5), seconds=-150 * 86400)
TEN: list[Event] = [*(start(seconds=n) for n in range(10)), upgrade(b"x" * 16)]
TWO: list[Event] = [
    upgrade(S, seconds=60 + n, role=role) for n, role in enumerate(["admin", "user"])
]
ONE: list[Event] = [start(S)]
OF_ONE_INSTANT: list[Event] = [upgrade(S, role="admin"), upgrade(S, role="user")]


ANNA, BEN, CARA = (bytes([0xC0 + number]) * 16 for number in range(3))


def launch(minute: float) -> SessionStarted:
    return start(bytes([int(minute)]) * 16, seconds=60 * minute)


def sign_in(minute: float, user: bytes, minute_of: int | None = None) -> Event:
    """An upgrade of `current`, or of the session that began in a minute."""
    session = None if minute_of is None else launch(minute_of).id
    visitor = launch(1).monthly_user_hash if session is None else None
    return upgrade(session, visitor=visitor, user=user, seconds=60 * minute)


OVERTAKES = 10 / 60  # so much earlier may an upgrade be handled than its start
# Of `current`: how many launches there are, a minute apart, and who signs in.
CURRENT: dict[str, tuple[int, list[Event]]] = {
    "the newest that has begun": (3, [sign_in(2.5, ANNA)]),
    "it overtakes the start": (2, [sign_in(2 - OVERTAKES, ANNA)]),
    "too early for the start": (2, [sign_in(1.9 - OVERTAKES, ANNA)]),
    "a repeat takes no stranger's": (5, [sign_in(6 + n, ANNA) for n in range(5)]),
    "several people behind one address get one each": (
        3,
        [sign_in(4, ANNA), sign_in(5, BEN), sign_in(6, CARA), sign_in(7, ANNA)],
    ),
    "a second tab, later": (2, [sign_in(1.5, ANNA), sign_in(2.5, ANNA)]),
    # Nobody can know whose the tab was that was opened before the one that was taken.
    "a second tab, earlier": (2, [sign_in(2.5, ANNA), sign_in(2.6, ANNA)]),
    # Ben took his own session: what Anna asks for again is still a repeat.
    "another's session in between": (3, [sign_in(2.5, ANNA), sign_in(3.5, BEN), sign_in(4, ANNA)]),
    "taken by id, the newest": (3, [sign_in(5, ANNA, 3), sign_in(6, ANNA)]),
    "taken by id, an older one": (3, [sign_in(5, ANNA, 2), sign_in(6, ANNA)]),
    "an older one by id in between": (
        3,
        [sign_in(4, ANNA), sign_in(5, ANNA, 1), sign_in(6, ANNA)],
    ),
    "by id only while it is anonymous": (2, [sign_in(2.5, ANNA), sign_in(3, BEN, 2)]),
}

BATCHES: dict[str, list[list[Event]]] = {
    "written twice, as after a crash before it was acknowledged": [TEN, TEN],
    "something new beside a repeat": [TEN[:1], TEN[:2]],
    "an earlier copy keeps the upgrade": [[start(S, seconds=5), upgrade(S)], [start(S, seconds=1)]],
    "an earlier copy of another visitor gives the upgrade of current back": [
        [start(S, seconds=5), upgrade(None, visitor=b"v" * 16)],
        [start(S, seconds=1, visitor=b"w" * 16)],
        [start(seconds=3)],
    ],
    "sent again after its month's end": [[BEFORE_END], [AFTER_END]],
    "the copy of the next month comes first": [[AFTER_END], [BEFORE_END]],
    "after a copy of the next month the upgrade is still known": [
        [BEFORE_END, upgrade(S, seconds=END)],
        [AFTER_END],
        [start(S, seconds=END - 2)],
    ],
    "a page that was open for months": [[OPEN_FOR_MONTHS], [upgrade(S)]],
    **{
        f"{name}, {which} first, {how}": batches
        for name, pair in (("two upgrades", TWO), ("upgrades of one instant", OF_ONE_INSTANT))
        for which, both in (("one", pair), ("other", pair[::-1]))
        for how, batches in (
            ("in one batch", [ONE, both]),
            ("in two", [ONE, both[:1], both[1:]]),
            ("before their session", [both, ONE]),
        )
    },
    **{
        f"{name}, {how}": batches
        for name, (launches, signed_in) in CURRENT.items()
        for starts in [list[Event](launch(minute) for minute in range(1, launches + 1))]
        for how, batches in (
            ("in one batch", [[*signed_in[::-1], *starts]]),
            ("one by one", [starts, *([each] for each in signed_in)]),
        )
    },
}


@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES)
async def test_after_each_batch_the_rows_are_the_models_and_each_event_is_counted_once(
    connection: asyncpg.Connection, writer: SessionWriter, batches: list[list[Event]]
) -> None:
    """The cases that the random ones of test_merge_rules.py find only now and then."""
    seen: list[Event] = []
    written: list[Written] = []
    for events in batches:
        written.append(await writer.write(batch_of(*events)))
        seen += events
        assert as_rows(await connection.fetch("SELECT * FROM sessions")) == rows_after(seen)
    sessions = [event.id for event in seen if isinstance(event, SessionStarted)]
    upgrades = len(seen) - len(sessions)
    assert sum(each.sessions for each in written) == len(set(sessions))
    assert sum(each.duplicate_sessions for each in written) == len(sessions) - len(set(sessions))
    assert sum(each.upgrades + each.duplicate_upgrades for each in written) == upgrades
    again = await writer.write(batch_of(*seen))
    assert again == Written(0, 0, len(sessions), upgrades)
    assert as_rows(await connection.fetch("SELECT * FROM sessions")) == rows_after(seen)


FIRST, SESSION = ("first", 0.0), ("session", 0.0)


@pytest.mark.parametrize(
    ("events", "outcomes"),
    [
        pytest.param([FIRST], ["first"], id="a new installation"),
        pytest.param([FIRST, ("first", 60)], ["first", "lost"], id="a second one"),
        pytest.param([("rotated", 0), ("first", 60)], ["rotated", "lost"], id="after a rotation"),
        pytest.param([FIRST, ("restored", 60)], ["first", "restored"], id="put back"),
        pytest.param([FIRST, ("replaced", 60)], ["first", "replaced"], id="replaced"),
        pytest.param(
            [SESSION, ("first", 5), ("session", 6)], ["lost"], id="after sessions of its month"
        ),
        pytest.param([("session", 6), ("first", 5)], ["first"], id="before all sessions"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_a_months_second_first_salt_is_noted_as_lost(
    connection: asyncpg.Connection,
    writer: SessionWriter,
    events: list[tuple[str, float]],
    outcomes: list[str],
    *,
    together: bool,
) -> None:
    """The salt's server had lost all that it knew. A repeat is noted once, and reported once."""
    made: list[Event] = []
    for outcome, seconds in events:
        at_us = NOON_US + int(seconds * SECOND_US)
        salt = SaltMade(uuid.uuid4().bytes, MONTH, at_us, outcome)
        made.append(start(seconds=seconds) if outcome == "session" else salt)
    batches = [batch_of(*made)] if together else [batch_of(each) for each in made]

    async def noted() -> list[str]:
        found = await connection.fetch("SELECT outcome FROM flusher.salts ORDER BY made_at")
        return [row["outcome"] for row in found]

    lost = [month for batch in batches for month in (await writer.write(batch)).salts_lost]
    assert await noted() == outcomes
    assert lost == [MONTH.first_day] * len({"lost", "replaced"} & {*outcomes})
    for batch in batches:
        assert (await writer.write(batch)).salts_lost == ()
    assert await noted() == outcomes


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


async def test_an_upgrade_of_a_session_that_is_in_two_months_takes_the_earlier(
    database: Database, writer: SessionWriter
) -> None:
    """It was sent again so late that it became a second session: it is still one upgrade."""
    first = start(b"s" * 16, month=MONTH.plus(-1), seconds=-20 * 86400)
    second = start(b"s" * 16)
    assert await writer.write(batch_of(first)) == Written(1, 0, 0, 0)
    assert await writer.write(batch_of(second)) == Written(1, 0, 0, 0)
    assert await writer.write(batch_of(upgrade(b"s" * 16))) == Written(0, 1, 0, 0)
    assert [row["highest_role"] for row in await rows(database)] == ["user", None]


async def test_what_two_flushers_store_at_once_is_stored_once_and_finds_each_other(
    dsn: str, database: Database
) -> None:
    """A session and its upgrade: neither sees the other's transaction before its own is nearly
    over. And the same entries: one was frozen for so long that another took them over.
    """
    async with Database(dsn) as other:
        one, two = SessionWriter(database, UTC), SessionWriter(other, UTC)
        for _ in range(20):
            starts = [start() for _ in range(50)]
            upgrades = [upgrade(started.id) for started in starts]
            await asyncio.gather(one.write(batch_of(*starts)), two.write(batch_of(*upgrades)))
        assert {row["highest_role"] for row in await rows(database)} == {"user"}
        same = batch_of(*(start(seconds=n) for n in range(200)))
        written = await asyncio.gather(one.write(same), two.write(same))
    assert sum(each.sessions for each in written) == 200
    assert sum(each.duplicate_sessions for each in written) == 200
    assert len(await rows(database)) == 20 * 50 + 200


async def test_a_merge_waits_for_who_stores_and_never_the_other_way_round(
    writer: SessionWriter, connection: asyncpg.Connection
) -> None:
    """Else each would wait for the other, and PostgreSQL end one of them after a second."""
    known, new = start(b"k" * 16), start(b"n" * 16)  # copied in this order
    await writer.write(batch_of(known))
    async with connection.transaction():  # a batch that is copied, and not yet matched
        await locks.share(connection, Lock.SESSIONS)
        await connection.execute(
            "INSERT INTO sessions SELECT $1, month, site, monthly_user_hash, NULL, created_at "
            "FROM sessions",
            UUID(bytes=new.id),
        )
        merging = asyncio.create_task(writer.write(batch_of(known, new)))
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        await eventually(lambda: connection.fetchval(waits))
        await asyncio.wait_for(locks.take(connection, Lock.UPGRADES), 30)
    assert await merging == Written(0, 0, 2, 0)


async def test_what_can_not_matter_any_more_is_forgotten(
    connection: asyncpg.Connection, writer: SessionWriter
) -> None:
    """Decided upgrades after an hour, waiting ones after two days, and those are counted."""
    session = start()
    await writer.write(batch_of(session, upgrade(session.id), upgrade(b"x" * 16)))
    assert await writer.count_waiting() == 1
    for age, left, given_up in (("50 minutes", 2, 0), ("2 hours", 1, 0), ("49 hours", 0, 1)):
        await connection.execute(
            "UPDATE flusher.upgrades SET stored_at = now() - $1::text::interval", age
        )
        assert await writer.purge() == given_up
        assert await connection.fetchval("SELECT count(*) FROM flusher.upgrades") == left


async def test_partitions_are_made_once_by_however_many(
    connection: asyncpg.Connection, dsn: str
) -> None:
    async def create() -> None:
        async with Database(dsn) as own:
            await SessionWriter(own, UTC).create_months(MONTH.plus(n) for n in range(12))

    await asyncio.gather(*(create() for _ in range(5)))
    partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'sessions'::regclass"
    assert await connection.fetchval(partitions) == 12


async def test_a_months_user_hash_is_never_stored_beside_an_earlier_months_session(
    connection: asyncpg.Connection, writer: SessionWriter
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
    kept = await connection.fetch("SELECT outcome, user_hash FROM flusher.upgrades ORDER BY 1")
    outcomes = ["applied"] * 2 + ["superseded"] * 3
    assert [tuple(row) for row in kept] == [(outcome, None) for outcome in outcomes]
    with pytest.raises(asyncpg.CheckViolationError, match="no_link_across_months"):
        await connection.execute("UPDATE flusher.upgrades SET user_hash = gen_random_uuid()")


@pytest.mark.parametrize("gone", [True, False], ids=["dropped", "found in another month, too"])
async def test_of_an_upgrade_from_a_later_month_the_user_is_forgotten_and_its_batch_stored(
    connection: asyncpg.Connection, writer: SessionWriter, *, gone: bool
) -> None:
    """Whatever else comes for that session: no user's hash is needed any more."""
    session = bytes([0xAA]) * 16
    earlier = MONTH.plus(-9)
    await writer.write(batch_of(start(session, month=earlier, seconds=-270 * 86400)))
    await writer.write(batch_of(upgrade(session)))
    if gone:
        await connection.execute("UPDATE flusher.months SET closed_at = now()")
        await connection.execute("SELECT flusher.drop_month($1)", earlier.first_day)
    again = () if gone else (start(session),)
    written = await writer.write(batch_of(upgrade(session, seconds=90, user=b"w" * 16), *again))
    assert written.sessions == len(again)
    rows = await connection.fetch("SELECT outcome, user_hash FROM flusher.upgrades")
    assert ("applied", None) in [tuple(row) for row in rows]


async def test_a_connection_in_an_unknown_state_is_not_used_again(database: Database) -> None:
    """Nor does it end the process: a flusher was seen to die of the first of these."""
    for fault in (
        asyncpg.InternalClientError("cannot switch to state 11; another operation is in progress"),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionResetError(),
        TimeoutError(),
    ):
        async with database.connection() as connection:
            before = connection
        with pytest.raises(Retry):
            async with database.connection():
                raise fault
        async with database.connection() as connection:
            assert connection is not before
            assert await connection.fetchval("SELECT 1") == 1


async def test_upgrades_that_come_second_are_counted_where_the_user_is_another(
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
