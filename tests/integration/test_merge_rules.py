"""The flusher's rows against the model's, for events in any order, repeated and in pieces."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    rule,
    run_state_machine_as_test,
)

from contract.calendar import SECOND_US, Month, month_at, to_us
from contract.errors import Retry
from contract.record import Event, SessionStarted, SessionUpgraded, encode
from flusher.batch import Batch, decode_entries
from flusher.counting import CLOSED_AFTER_US, MonthCounter
from flusher.database import Database
from flusher.entry import Entry
from flusher.write import SessionWriter
from tests.conftest import Databases
from tests.instant import MONTH
from tests.live_counts import views_and_live_counts_that_differ
from tests.model import Row, rows_after

UTC = ZoneInfo("UTC")
BOUNDARY_US = MONTH.ends_us(UTC)

# Few of each, so that events meet.
_SESSIONS = st.integers(1, 3).map(lambda number: bytes([0xA0 + number]) * 16)
_SITES = st.sampled_from(["a.example.org", "a.example.org", "b.example.org"])
_VISITORS = st.integers(1, 2).map(lambda number: bytes([0xB0 + number]) * 16)
_USERS = st.integers(1, 2).map(lambda number: bytes([0xC0 + number]) * 16)
_ROLES = st.sampled_from(["user", "admin"])
# Around a month's end, so that some are of one month and some of the next; unique to a microsecond.
_SECONDS = st.integers(-60, 60)


@dataclass(frozen=True, slots=True)
class Connections:
    """To one database, for all examples: a connection costs as much as some of their steps."""

    connection: asyncpg.Connection
    databases: tuple[Database, Database]
    counting_database: Database


class Machine(RuleBasedStateMachine):
    """Sends events, delivers them somehow, and compares."""

    runner: asyncio.Runner
    connections: Connections
    sent = Bundle("sent")

    @initialize()
    def begin(self) -> None:
        self.events: list[Event] = []
        self.delivered: set[int] = set()
        self.connection = self.connections.connection
        self.writers = [SessionWriter(database, UTC) for database in self.connections.databases]
        self.counter = MonthCounter(self.connections.counting_database, UTC)
        self.runner.run(self.connection.execute("TRUNCATE sessions, flusher.upgrades"))

    def teardown(self) -> None:
        # Only what never came: a repeat could mend what an earlier delivery left undone.
        left = enumerate(self.events, 1)
        self._deliver([sent for sent in left if sent[0] not in self.delivered], 0)
        rows = self.runner.run(self._rows())
        differences = self.runner.run(views_and_live_counts_that_differ(self.connection))
        assert rows == rows_after(self.events)
        assert differences == []

    @rule(later_us=st.sampled_from([0, CLOSED_AFTER_US + 60 * SECOND_US]), seconds=_SECONDS)
    def count(self, later_us: int, seconds: int) -> None:
        """Whenever months are counted or closed, the views show what is there."""
        self.runner.run(self._count(BOUNDARY_US + seconds * SECOND_US + later_us))

    async def _count(self, now_us: int) -> None:
        await self.counter.run_once(now_us, at_once=True)
        assert await views_and_live_counts_that_differ(self.connection) == []

    @rule(target=sent, session=_SESSIONS, site=_SITES, visitor=_VISITORS, seconds=_SECONDS)
    def start(self, session: bytes, site: str, visitor: bytes, seconds: int) -> Any:
        at_us, month = self._instant(seconds)
        return self._send(SessionStarted(session, month, at_us, site, visitor, None))

    @rule(target=sent, session=_SESSIONS, site=_SITES, user=_USERS, role=_ROLES, seconds=_SECONDS)
    def start_signed_in(
        self, session: bytes, site: str, user: bytes, role: str, seconds: int
    ) -> Any:
        at_us, month = self._instant(seconds)
        return self._send(SessionStarted(session, month, at_us, site, user, role))

    @rule(target=sent, session=_SESSIONS, site=_SITES, user=_USERS, role=_ROLES, seconds=_SECONDS)
    def upgrade(self, session: bytes, site: str, user: bytes, role: str, seconds: int) -> Any:
        at_us, month = self._instant(seconds)
        return self._send(
            SessionUpgraded(self._new_id(), session, None, month, at_us, site, user, role)
        )

    @rule(target=sent, visitor=_VISITORS, site=_SITES, user=_USERS, role=_ROLES, seconds=_SECONDS)
    def upgrade_current(
        self, visitor: bytes, site: str, user: bytes, role: str, seconds: int
    ) -> Any:
        at_us, month = self._instant(seconds)
        return self._send(
            SessionUpgraded(self._new_id(), None, visitor, month, at_us, site, user, role)
        )

    @rule(events=st.lists(sent, min_size=1, max_size=6), writer=st.integers(0, 1))
    def deliver(self, events: list[Any], writer: int) -> None:
        self._deliver(events, writer)

    @rule(
        one=st.lists(consumes(sent), min_size=1, max_size=4),
        other=st.lists(sent, min_size=1, max_size=4),
    )
    def deliver_at_once(self, one: list[Any], other: list[Any]) -> None:
        self.runner.run(self._write_both(self._batch(one), self._batch(other)))

    def _instant(self, seconds: int) -> tuple[int, Month]:
        at_us = BOUNDARY_US + seconds * SECOND_US + len(self.events)
        return at_us, month_at(at_us, UTC)

    def _new_id(self) -> bytes:
        return (0xD000 + len(self.events)).to_bytes(16, "big")

    def _send(self, event: Event) -> tuple[int, Event]:
        self.events.append(event)
        return len(self.events), event

    def _batch(self, events: list[Any]) -> Batch:
        self.delivered.update(number for number, _ in events)
        entries = [Entry(0, str(number).encode(), encode(event)) for number, event in events]
        batch = decode_entries(entries, MONTH.plus(2))
        assert not batch.broken
        return batch

    def _deliver(self, events: list[Any], writer: int) -> None:
        if events:
            self.runner.run(self._write(writer, self._batch(events)))

    async def _write(self, writer: int, batch: Batch) -> None:
        for _ in range(10):
            try:
                await self.writers[writer].write(batch)
            except Retry:
                continue  # of two that wait for each other, PostgreSQL ends one
            return
        pytest.fail("it was never written")

    async def _write_both(self, one: Batch, other: Batch) -> None:
        await asyncio.gather(self._write(0, one), self._write(1, other), self._count_meanwhile())
        assert await views_and_live_counts_that_differ(self.connection) == []

    async def _count_meanwhile(self) -> None:
        with suppress(Retry):  # of two that change one month's counts, PostgreSQL ends one
            await self.counter.run_once(BOUNDARY_US + 60 * SECOND_US, at_once=True)

    async def _rows(self) -> set[Row]:
        return {
            Row(
                row["id"].bytes,
                Month(row["month"].year, row["month"].month),
                row["site"],
                row["monthly_user_hash"].bytes,
                row["highest_role"],
                to_us(row["created_at"]),
                None if row["upgraded_at"] is None else to_us(row["upgraded_at"]),
            )
            for row in await self.connection.fetch("SELECT * FROM sessions")
        }


@pytest.fixture
def machine(databases: Databases) -> Iterator[type[Machine]]:
    with asyncio.Runner() as runner:
        Machine.runner = runner
        Machine.connections = runner.run(connect(databases))
        yield Machine
        runner.run(close(Machine.connections))


async def connect(databases: Databases) -> Connections:
    dsn = await databases.create()
    connection = await asyncpg.connect(dsn)
    return Connections(connection, (Database(dsn), Database(dsn)), Database(dsn))


async def close(connections: Connections) -> None:
    await connections.connection.close()
    for database in (*connections.databases, connections.counting_database):
        await database.close()


@pytest.mark.parametrize("examples", [75, pytest.param(500, marks=pytest.mark.long)])
@pytest.mark.timeout(0 if "MERGE_EXAMPLES" in os.environ else 240)
def test_whatever_the_order_the_rows_are_the_models(machine: type[Machine], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("MERGE_EXAMPLES", examples)),
            stateful_step_count=14,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
