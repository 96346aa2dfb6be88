"""What a session takes on PostgreSQL's disk and in its log: the figures of docs/capacity.md."""

import os
import re
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from contract.record import Event
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from tests.events import batch_of, start, upgrade
from tests.instant import NOON_US
from tests.system import ROOT

SESSIONS, A_BATCH = 40_000, 10_000


async def test_a_sessions_bytes_are_those_of_the_page(dsn: str) -> None:
    """As the flusher stores them: in the order of time, three of each person, a tenth upgraded."""
    people = [os.urandom(16) for _ in range(SESSIONS // 3)]
    milliseconds = NOON_US // 1000
    watch = await asyncpg.connect(dsn)
    await watch.execute("CHECKPOINT")  # after one, the first touch of each page is logged whole
    began = await watch.fetchval("SELECT pg_current_wal_lsn()")
    async with Database(dsn) as database:
        writer = SessionWriter(database, ZoneInfo("UTC"))
        for first in range(0, SESSIONS, A_BATCH):
            events: list[Event] = []
            for number in range(first, first + A_BATCH):
                at = milliseconds + number
                ids = at.to_bytes(6, "big") + b"\x70\x00\x80" + os.urandom(7)
                who = people[int.from_bytes(os.urandom(4), "big") % len(people)]
                events.append(start(ids, visitor=who, seconds=number / 1000))
                if number % 10 == 0:
                    events.append(upgrade(ids, user=os.urandom(16), seconds=number / 1000 + 60))
            await writer.write(batch_of(*events))
    logged = await watch.fetchval("SELECT pg_current_wal_lsn() - $1::pg_lsn", began)
    [(table, indexes)] = await watch.fetch(
        "SELECT sum(pg_table_size(relid)), sum(pg_indexes_size(relid)) "
        "FROM pg_partition_tree('sessions')"
    )
    await watch.close()
    measured = {"table": table, "indexes": indexes, "log": logged}
    page = (ROOT / "docs/capacity.md").read_text()
    for name, bytes_ in measured.items():
        each = int(bytes_) / SESSIONS
        (said,) = re.findall(rf"^\| PostgreSQL's {name}.*?\| (\d+) bytes", page, re.MULTILINE)
        assert each == pytest.approx(int(said), rel=0.2), name
