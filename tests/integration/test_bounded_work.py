"""What a session costs at the most, and on the disk: processor time of a batch, bytes."""

import os
import re
import time
from collections.abc import Iterator

import asyncpg
import pytest

from bench.speed.machine import cpu_seconds
from contract.record import Event, SessionStarted, SessionUpgraded
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from tests.events import batch_of, start, upgrade
from tests.instant import NOON_US, UTC
from tests.system import ROOT

A_BATCH = 1_000
VISITOR = b"v" * 16


def portions(
    events: list[SessionStarted] | list[SessionUpgraded],
) -> Iterator[list[SessionStarted] | list[SessionUpgraded]]:
    for first in range(0, len(events), A_BATCH):
        yield events[first : first + A_BATCH]


def user(number: int) -> bytes:
    return b"u" + number.to_bytes(15)


@pytest.mark.parametrize("each", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("are_several", [False, True], ids=["one user", "as many users"])
async def test_no_batch_takes_long_whatever_one_visitor_did_before(
    database: Database,
    each: int,
    are_several: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Sessions and then as many upgrades of `current`: quadratic work took 4 s a batch at 2,000 of
    them and 17 s at 5,000, for innocent rows too. What is measured is the time of a processor,
    which is longer where others use it: so the full size is for a quiet machine.
    """
    users = each if are_several else 1
    writer = SessionWriter(database, UTC)
    sessions = [start(visitor=VISITOR, seconds=n / 1000) for n in range(each)]
    upgrades = [
        upgrade(None, visitor=VISITOR, user=user(n % users), seconds=60 + n / 1000)
        for n in range(each)
    ]
    spent = []

    async def write(*events: SessionStarted | SessionUpgraded) -> None:
        batch = batch_of(*events)
        async with database.connection() as connection:
            server = connection.get_server_pid()
        before = time.process_time() + cpu_seconds(server)
        await writer.write(batch)
        spent.append(time.process_time() + cpu_seconds(server) - before)

    await write(upgrade(None, visitor=b"x" * 16))  # the month, its index
    spent.clear()
    for portion in portions(sessions):
        await write(*portion)
    for portion in portions(upgrades):
        await write(*portion)
    # And then whatever may make all of it be decided again.
    await write(start(visitor=VISITOR, seconds=100), start(visitor=b"i" * 16))
    await write(upgrade(None, visitor=VISITOR, user=b"w" * 16, seconds=101))
    await write(start(sessions[5].id, visitor=VISITOR, seconds=-1))  # an earlier copy
    await write(start(visitor=VISITOR, seconds=30))  # long on its way
    await write(upgrade(sessions[-1].id, user=b"x" * 16, seconds=59))
    await write(start(visitor=b"i" * 16))
    async with database.connection() as connection:
        taken = await connection.fetchval(
            "SELECT count(*) FROM sessions WHERE highest_role = 'user'"
        )
    assert await check_counts(database) == []
    assert max(spent) < 1.0
    assert taken == (3 if users == 1 else each + 2)


STORED, TOGETHER = 40_000, 10_000


async def test_a_sessions_bytes_are_those_of_the_page(
    connection: asyncpg.Connection, writer: SessionWriter
) -> None:
    """As the flusher stores them: in the order of time, three of each person, a tenth upgraded."""
    people = [os.urandom(16) for _ in range(STORED // 3)]
    milliseconds = NOON_US // 1000
    # After one the first touch of each page is logged whole.
    await connection.execute("CHECKPOINT")
    began = await connection.fetchval("SELECT pg_current_wal_lsn()")
    for first in range(0, STORED, TOGETHER):
        events: list[Event] = []
        for number in range(first, first + TOGETHER):
            at = milliseconds + number
            ids = at.to_bytes(6, "big") + b"\x70\x00\x80" + os.urandom(7)
            who = people[int.from_bytes(os.urandom(4), "big") % len(people)]
            events.append(start(ids, visitor=who, seconds=number / 1000))
            if number % 10 == 0:
                events.append(upgrade(ids, user=os.urandom(16), seconds=number / 1000 + 60))
        await writer.write(batch_of(*events))
    logged = await connection.fetchval("SELECT pg_current_wal_lsn() - $1::pg_lsn", began)
    [(table, indexes)] = await connection.fetch(
        "SELECT sum(pg_table_size(relid)), sum(pg_indexes_size(relid)) "
        "FROM pg_partition_tree('sessions')"
    )
    measured = {"table": table, "indexes": indexes, "log": logged}
    page = (ROOT / "docs/capacity.md").read_text()
    for name, bytes_ in measured.items():
        each = int(bytes_) / STORED
        (said,) = re.findall(rf"^\| PostgreSQL's {name}.*?\| (\d+) bytes", page, re.MULTILINE)
        assert each == pytest.approx(int(said), rel=0.2), name
