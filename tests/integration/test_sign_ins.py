"""How far visitors' hashes are from people, counted from sign-ins, and what is kept of them."""

import asyncio
import random
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from contract.calendar import DAY_US, Month
from contract.errors import Retry
from contract.identity import SALT_BYTES, Hasher
from contract.record import SessionStarted, SessionUpgraded
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from tests.counted import sign_in_counts
from tests.events import SITE, batch_of, start, upgrade
from tests.instant import MONTH, NOON_US
from tests.integration.keeping import keeper_of

UTC = ZoneInfo("UTC")
ENDED = MONTH.plus(-2)
OTHER_SITE = "b.example.org"
HASHER = Hasher(bytes(SALT_BYTES))
# A person with three devices, one of which another person uses, too; and one who has come alone.
PAIRS = [("telephone", "ada"), ("desk", "ada"), ("sofa", "ada"), ("sofa", "bob"), ("bus", "cyd")]
SUMS = (5, 3, 4)

Events = list[SessionStarted | SessionUpgraded]


def signed_in(as_visitor: str, user: str, site: str = SITE, month: Month = MONTH) -> Events:
    """A visitor's session, and its sign-in, as the collector makes both."""
    seconds = (month.starts_us(UTC) + DAY_US - NOON_US) / 1e6
    visitor = HASHER.visitor(site, b"home", as_visitor)
    session = start(visitor=visitor, site=site, month=month, seconds=seconds)
    hash_ = HASHER.user(site, user)
    return [
        session,
        upgrade(
            session.id,
            seconds=seconds + 60,
            user=hash_,
            site=site,
            month=month,
            sign_in=HASHER.sign_in(visitor, hash_),
        ),
    ]


def all_signed_in(site: str = SITE, month: Month = MONTH) -> Events:
    return [event for pair in PAIRS for event in signed_in(*pair, site, month)]


async def sums(
    connection: asyncpg.Connection, site: str = SITE, month: Month = MONTH
) -> tuple[int, ...] | None:
    """Pairs, users and visitors."""
    return (await sign_in_counts(connection)).get((month.first_day, site))


async def digests(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM flusher.sign_in_digests"))


async def test_pairs_users_and_visitors_are_counted_once_each_by_month_and_site(
    connection: asyncpg.Connection, writer: SessionWriter
) -> None:
    await writer.write(batch_of(*all_signed_in(), *signed_in("bus", "ada", OTHER_SITE)))
    await writer.write(batch_of(*signed_in("bus", "ada", month=MONTH.plus(-1))))
    assert await sums(connection) == SUMS
    assert await sums(connection, OTHER_SITE) == (1, 1, 1)
    assert await sums(connection, month=MONTH.plus(-1)) == (1, 1, 1)


@pytest.mark.parametrize("seed", range(2))
async def test_neither_order_nor_repeats_nor_what_became_of_the_session_changes_the_sums(
    seed: int, connection: asyncpg.Connection, writer: SessionWriter
) -> None:
    """The same records again, as after a kill; the same people again; sign-ins that come before
    their session, without it, or second to another's; and by `current`.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    first, again = all_signed_in(), all_signed_in()
    visitor, user = HASHER.visitor(SITE, b"home", "sofa"), HASHER.user(SITE, "bob")
    sign_in = HASHER.sign_in(visitor, user)
    stolen = upgrade(first[0].id, seconds=9999, user=user, sign_in=sign_in)
    current = upgrade(None, visitor=visitor, seconds=9999, user=user, sign_in=sign_in)
    events = [*first, *again[1::2], stolen, current, *chance.choices(first, k=6)]
    chance.shuffle(events)
    while events:
        batch = [events.pop() for _ in range(min(len(events), chance.randint(1, 5)))]
        for _ in range(chance.randint(1, 2)):
            await writer.write(batch_of(*batch))
    assert await sums(connection) == SUMS
    assert await digests(connection) == sum(SUMS)


async def test_two_flushers_at_once_count_a_pair_once(
    connection: asyncpg.Connection, database: Database, dsn: str
) -> None:
    async with Database(dsn) as other:
        for _ in range(5):
            events = all_signed_in()
            async with asyncio.TaskGroup() as both:
                for each in (database, other):
                    both.create_task(SessionWriter(each, UTC).write(batch_of(*events[1::2])))
    assert await sums(connection) == SUMS


async def test_a_batch_that_is_not_committed_counts_nothing(
    connection: asyncpg.Connection, writer: SessionWriter
) -> None:
    """Neither sums nor digests; and the next try has both."""
    await connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION SQLSTATE ''57014''; END';"
        "CREATE TRIGGER refuse BEFORE INSERT ON flusher.count_changes "
        "FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    events = all_signed_in()
    with pytest.raises(Retry):
        await writer.write(batch_of(*events))
    assert (await sums(connection), await digests(connection)) == (None, 0)
    await connection.execute("DROP FUNCTION refuse CASCADE")
    await writer.write(batch_of(*events))
    assert (await sums(connection), await digests(connection)) == (SUMS, sum(SUMS))


@pytest.mark.parametrize("keep", ["hour", "day", "instant"])
async def test_a_closed_month_has_its_sums_and_no_digest_and_what_comes_later_is_not_added(
    keep: str, connection: asyncpg.Connection, writer: SessionWriter, dsn: str
) -> None:
    await writer.write(batch_of(*all_signed_in(month=ENDED), *all_signed_in()))
    async with Database(dsn) as other:
        keeper = keeper_of(other, keep)
        assert await keeper.close() == (ENDED.first_day,)
        assert await sums(connection, month=ENDED) == SUMS
        assert await digests(connection) == sum(SUMS), "those of the open month"
        await writer.write(
            batch_of(*signed_in("train", "dan", month=ENDED), *signed_in("train", "dan"))
        )
        await keeper.close()
    assert await sums(connection, month=ENDED) == SUMS
    assert await sums(connection) == (6, 4, 5)
    assert await digests(connection) == 15


async def test_the_view_has_both_factors_where_there_are_enough_pairs(
    connection: asyncpg.Connection, writer: SessionWriter
) -> None:
    """Seven people with three devices each; twelve addresses with two people each; 19 pairs."""
    several = [signed_in(f"device {n}", f"user {n % 7}") for n in range(21)]
    shared = [signed_in(f"address {n % 12}", f"user {n}", OTHER_SITE) for n in range(24)]
    few = [signed_in(f"{n}", f"{n}", "few.example.org") for n in range(19)]
    events = [event for each in (*several, *shared, *few) for event in each]
    await writer.write(batch_of(*events))
    rows = await connection.fetch(
        "SELECT site, sign_in_pairs, visitors_per_user, users_per_visitor FROM data_quality"
    )
    assert {tuple(row) for row in rows} == {
        (SITE, 21, 3.0, 1.0),
        (OTHER_SITE, 24, 1.0, 2.0),
        ("few.example.org", 19, None, None),
    }


async def test_a_month_of_which_only_sign_ins_are_known_has_no_row_in_the_view(
    connection: asyncpg.Connection, writer: SessionWriter
) -> None:
    """The upgrade of a session of the month before. Otherwise a site that has moved to another
    system would have a row in both, and that month could not be compared.
    """
    before = MONTH.plus(-1)
    session, _ = signed_in("sofa", "ada", month=before)
    sign_in = HASHER.sign_in(HASHER.visitor(SITE, b"home", "sofa"), HASHER.user(SITE, "ada"))
    await writer.write(batch_of(session, upgrade(session.id, sign_in=sign_in)))
    assert await sums(connection) == (1, 1, 1)
    rows = await connection.fetch("SELECT month, sign_ins_waiting FROM data_quality")
    assert [tuple(row) for row in rows] == [(before.first_day, 0)]


async def test_no_table_holds_a_visitors_hash_beside_a_digest_nor_either_of_a_pair(
    connection: asyncpg.Connection, writer: SessionWriter
) -> None:
    """Digests are of nothing that stands in another table, and tell no order."""
    events = all_signed_in()
    await writer.write(batch_of(*events))
    rows = await connection.fetch("SELECT * FROM flusher.sign_in_digests ORDER BY ctid")
    assert {*rows[0].keys()} == {"month", "digest", "site", "kind"}
    in_order = [row["digest"] for row in rows]
    assert in_order == sorted(in_order)
    hashes = {HASHER.visitor(SITE, b"home", device) for device, _ in PAIRS}
    hashes |= {HASHER.user(SITE, user) for _, user in PAIRS}
    assert not hashes & {digest.bytes for digest in in_order}
