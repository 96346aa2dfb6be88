"""How far visitors' hashes are from people, counted from sign-ins, and what is kept of them."""

import asyncpg
import pytest

from contract.calendar import DAY_US, Month
from contract.identity import SALT_BYTES, Hasher
from contract.record import SessionStarted, SessionUpgraded
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from tests.counted import sign_in_counts
from tests.events import SITE, batch_of, start, upgrade
from tests.instant import MONTH, NOON_US, UTC
from tests.integration.keeping import keeper_of

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


async def test_digests_are_of_nothing_that_stands_in_another_table_and_show_no_order(
    connection: asyncpg.Connection, writer: SessionWriter
) -> None:
    """No table holds a visitor's hash beside a digest, nor either of a pair."""
    await writer.write(batch_of(*all_signed_in()))
    rows = await connection.fetch("SELECT * FROM flusher.sign_in_digests ORDER BY ctid")
    assert {*rows[0].keys()} == {"month", "digest", "site", "kind"}
    in_order = [row["digest"] for row in rows]
    assert in_order == sorted(in_order)
    hashes = {HASHER.visitor(SITE, b"home", device) for device, _ in PAIRS}
    hashes |= {HASHER.user(SITE, user) for _, user in PAIRS}
    assert not hashes & {digest.bytes for digest in in_order}


@pytest.mark.parametrize("keep", ["hour", "day", "instant"])
async def test_a_closed_month_has_its_sums_and_no_digest_and_what_comes_later_is_not_added(
    keep: str, connection: asyncpg.Connection, writer: SessionWriter, dsn: str
) -> None:
    of_another_site = signed_in("bus", "ada", OTHER_SITE)
    await writer.write(batch_of(*all_signed_in(month=ENDED), *all_signed_in(), *of_another_site))
    async with Database(dsn) as other:
        keeper = keeper_of(other, keep)
        assert await keeper.close() == (ENDED.first_day,)
        assert await sums(connection, month=ENDED) == SUMS
        assert await digests(connection) == sum(SUMS) + 3, "those of the open month"
        await writer.write(
            batch_of(*signed_in("train", "dan", month=ENDED), *signed_in("train", "dan"))
        )
        await keeper.close()
    assert await sums(connection, month=ENDED) == SUMS
    assert await sums(connection) == (6, 4, 5)
    assert await sums(connection, OTHER_SITE) == (1, 1, 1)
    assert await digests(connection) == 18


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
