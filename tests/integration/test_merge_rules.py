"""The flusher's rows against the model's, for events in any order, repeated and in pieces; and
after each step the views and `check` against a live count.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import asyncpg
import pytest
from asyncpg.connection import LoggedQuery
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from contract.calendar import SECOND_US, Month, month_at
from contract.errors import DeadLetter, Retry
from contract.identity import Hasher
from contract.record import Event, SessionStarted, SessionUpgraded, encode
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from flusher.rows.batch import Batch, Entry, decode_entries
from tests.conftest import Databases
from tests.counted import sign_in_counts
from tests.instant import MONTH, UTC
from tests.integration.keeping import keeper_of
from tests.live_counts import check_views
from tests.model import Row, as_rows, rows_after, sign_ins_after

# Both months are over, so that they may be closed.
BEFORE, AFTER = MONTH.plus(-3), MONTH.plus(-2)
BOUNDARY_US = BEFORE.ends_us(UTC)
# Imported into, and dropped in the end.
EARLIER = MONTH.plus(-9)

# Few of each, so that events meet.
_SESSIONS = st.integers(1, 3).map(lambda number: bytes([0xA0 + number]) * 16)
# Of version 8, as an import makes them of the earlier system's.
_IMPORTED = st.integers(1, 3).map(lambda number: bytes([0x80 + number]) * 16)
_SITES = st.sampled_from(["a.example.org", "a.example.org", "b.example.org"])
_VISITORS = st.integers(1, 2).map(lambda number: bytes([0xB0 + number]) * 16)
_USERS = st.integers(1, 2).map(lambda number: bytes([0xC0 + number]) * 16)
_ROLES = st.sampled_from(["user", "räte-✓"])
# Around a month's end, so that some are of one month and some of the next; unique to a microsecond.
_SECONDS = st.integers(-60, 60)


# As a database in which nothing ever was. TRUNCATE would make all of their files anew.
_EMPTY = """
    DELETE FROM sessions;
    DELETE FROM flusher.upgrades;
    DELETE FROM flusher.count_changes;
    DELETE FROM flusher.counts;
    DELETE FROM flusher.quality_counts;
    DELETE FROM flusher.sign_in_digests;
    UPDATE flusher.months SET closed_at = NULL, dropped_at = NULL, kept = NULL
"""


# What open months have counted is what is noted, and of closed ones nothing is.
_WRONG_SIGN_INS = """
    SELECT FROM flusher.quality_counts q JOIN flusher.months m USING (month)
    WHERE q.kind IN ('pair', 'user', 'visitor')
        AND CASE WHEN m.closed_at IS NULL THEN q.number ELSE 0 END
        <> (SELECT count(*) FROM flusher.sign_in_digests d
            WHERE (d.month, d.site, d.kind) = (q.month, q.site, q.kind))
"""


@dataclass(frozen=True, slots=True)
class Connections:
    """To one database, for all examples: a connection costs as much as some of their steps."""

    connection: asyncpg.Connection
    databases: tuple[Database, Database]
    killed: Database
    other: Database


class Kill:
    """Cuts a connection after so many statements."""

    def __init__(self, connection: asyncpg.Connection, statements: int) -> None:
        self._connection = connection
        self.left = statements

    def __call__(self, _: LoggedQuery) -> None:
        self.left -= 1
        if self.left == 0:
            self._connection.terminate()


class Machine(RuleBasedStateMachine):
    """Sends events, delivers them somehow, and compares."""

    runner: asyncio.Runner
    connections: Connections
    sent = Bundle("sent")

    @initialize()
    def begin(self) -> None:
        self.events: list[Event] = []
        self.delivered: set[int] = set()
        self.closed = False
        self.dropped: set[tuple[object, ...]] | None = None
        self.connection = self.connections.connection
        self.writers = [SessionWriter(database, UTC) for database in self.connections.databases]
        self.keeper = keeper_of(self.connections.other)
        self.runner.run(self.connection.execute(_EMPTY))

    def teardown(self) -> None:
        # Only what never came: a repeat could mend what an earlier delivery left undone.
        left = enumerate(self.events, 1)
        self._deliver([sent for sent in left if sent[0] not in self.delivered], 0)
        rows = self.runner.run(self._rows())
        assert rows == rows_after(self.events)
        if not self.closed:
            counted = self.runner.run(sign_in_counts(self.connection))
            assert counted == sign_ins_after(self.events)
        self.runner.run(self._check())

    @rule()
    def add_up(self) -> None:
        """Whenever that is, the views show what is there."""
        self.runner.run(self._add_up())

    async def _add_up(self) -> None:
        await self.keeper.fold()
        await self._check()

    @rule()
    def close(self) -> None:
        """What comes for these months from here on is late."""
        self.runner.run(self._close())

    async def _close(self) -> None:
        self.closed = True  # what comes late is not among its sign-ins
        await self.keeper.close()
        await self._check()

    @rule(session=_IMPORTED, site=_SITES, visitor=_VISITORS)
    def import_earlier(self, session: bytes, site: str, visitor: bytes) -> None:
        """A session of an earlier system. It may be there already, or its month be dropped."""
        at_us = EARLIER.starts_us(UTC) + 40_000 * SECOND_US
        event = SessionStarted(session, EARLIER, at_us, site, visitor, None)
        batch = decode_entries([Entry(0, b"", encode(event))], MONTH)
        if self.dropped is None:
            self.runner.run(self._write(0, batch))
        else:
            with pytest.raises(DeadLetter):
                self.runner.run(self._write(0, batch))
        self.runner.run(self._check())

    @precondition(lambda self: self.dropped is None)
    @rule()
    def drop_earlier(self) -> None:
        self.runner.run(self._drop_earlier())

    async def _drop_earlier(self) -> None:
        await self.writers[0].create_months([EARLIER])
        await self._close()
        before = await self._counts_of_earlier()
        assert await self.connection.fetchval("SELECT flusher.drop_month($1)", EARLIER.first_day)
        self.dropped = before
        await self._check()

    async def _counts_of_earlier(self) -> set[tuple[object, ...]]:
        query = "SELECT * FROM monthly_impact WHERE month = $1"
        rows = await self.connection.fetch(query, EARLIER.first_day)
        return {tuple(row) for row in rows}

    @property
    def _dropped_month(self) -> date | None:
        return None if self.dropped is None else EARLIER.first_day

    async def _check(self) -> None:
        """The views are exact, and so says `check`."""
        await check_views(self.connection, self._dropped_month)
        assert await check_counts(self.connections.other) == []
        assert await self.connection.fetch(_WRONG_SIGN_INS) == []
        if self.dropped is not None:
            assert await self._counts_of_earlier() == self.dropped

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

    @rule(
        target=sent,
        session=_SESSIONS,
        site=_SITES,
        user=_USERS,
        role=_ROLES,
        seconds=_SECONDS,
        own=st.none() | _VISITORS,
    )
    def upgrade(
        self, session: bytes, site: str, user: bytes, role: str, seconds: int, own: bytes | None
    ) -> Any:
        """`own`: which visitor's the request is."""
        at_us, month = self._instant(seconds)
        sign_in = Hasher(site.encode()).sign_in(own, user) if own else None
        return self._send(
            SessionUpgraded(self._new_id(), session, None, month, at_us, site, user, role, sign_in)
        )

    @rule(target=sent, visitor=_VISITORS, site=_SITES, user=_USERS, role=_ROLES, seconds=_SECONDS)
    def upgrade_current(
        self, visitor: bytes, site: str, user: bytes, role: str, seconds: int
    ) -> Any:
        at_us, month = self._instant(seconds)
        # Nobody has one hash on two sites.
        sign_in = Hasher(site.encode()).sign_in(visitor, user)
        return self._send(
            SessionUpgraded(self._new_id(), None, visitor, month, at_us, site, user, role, sign_in)
        )

    @rule(events=st.lists(sent, min_size=1, max_size=6), writer=st.integers(0, 1))
    def deliver(self, events: list[Any], writer: int) -> None:
        self._deliver(events, writer)
        self.runner.run(self._check())

    @rule(events=st.lists(sent, min_size=1, max_size=6), statements=st.integers(1, 16))
    def deliver_and_be_killed(self, events: list[Any], statements: int) -> None:
        """After so many statements, if there are as many."""
        entries = [Entry(0, str(number).encode(), encode(event)) for number, event in events]
        self.runner.run(self._write_killed(decode_entries(entries, MONTH), statements))
        self.runner.run(self._check())

    async def _write_killed(self, batch: Batch, statements: int) -> None:
        writer = SessionWriter(self.connections.killed, UTC)
        await writer.create_months(batch.months)
        async with self.connections.killed.connection() as connection:
            kill = Kill(connection, statements)
            connection.add_query_logger(kill)
        try:
            await writer.write(batch)
        except Retry:
            assert kill.left <= 0
        finally:
            connection.remove_query_logger(kill)

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
        batch = decode_entries(entries, MONTH)
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
        await asyncio.gather(self._write(0, one), self._write(1, other), self.keeper.fold())
        await self._check()

    async def _rows(self) -> set[Row]:
        query = "SELECT * FROM sessions WHERE month <> $1"
        return as_rows(await self.connection.fetch(query, EARLIER.first_day))


class Ended(Machine):
    """And in the end its months are closed for good."""

    def teardown(self) -> None:
        super().teardown()
        self.runner.run(self._close_for_good())

    async def _close_for_good(self) -> None:
        """Sessions with coarse times and new ids are as many, of the same people and days."""
        before = await check_views(self.connection, self._dropped_month)
        await keeper_of(self.connections.other, "day").close()
        await self._check()
        assert await check_views(self.connection, self._dropped_month) == before
        fine = "SELECT FROM sessions WHERE created_at <> date_trunc('day', created_at)"
        assert await self.connection.fetch(fine) == []


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
    both = Database(dsn), Database(dsn)
    return Connections(connection, both, Database(dsn), Database(dsn))


async def close(connections: Connections) -> None:
    await connections.connection.close()
    for database in (*connections.databases, connections.killed, connections.other):
        await database.close()


@pytest.mark.parametrize("examples", [40, pytest.param(500, marks=pytest.mark.long)])
@pytest.mark.timeout(240)
def test_whatever_the_order_the_rows_are_the_models(machine: type[Machine], examples: int) -> None:
    run(machine, examples)


@pytest.mark.usefixtures("machine")
def test_whatever_came_a_months_counts_stay_when_it_is_closed_for_good() -> None:
    run(Ended, 15)


def run(machine: type[Machine], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=14,
            deadline=None,
            # A failure is shown at once, not shrunk: shrinking takes minutes, and after a time-out
            # nothing would be shown.
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
