"""Step 4 of an import: its sessions into PostgreSQL, a batch a transaction, each once; or, in a dry
run, only whether they would be stored.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from zoneinfo import ZoneInfo

import asyncpg

from contract.errors import Retry
from flusher.imports.earlier_sessions import KEY_BYTES, RUN_BYTES, EarlierSession
from flusher.postgres import locks
from flusher.postgres.database import Database
from flusher.postgres.locks import Lock
from flusher.postgres.statements import statement
from flusher.postgres.store_counts import store_counts
from flusher.postgres.write import SessionWriter
from flusher.rows.copy_format import COLUMNS, copy_source
from flusher.rows.counts import Counts
from runtime.retry import Backoff, retry

_PAUSES_SECONDS: Final = 4.0
# The first and the last that may follow a key in an id.
_FIRST: Final = "00" * RUN_BYTES
_LAST: Final = "ff" * RUN_BYTES


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what ends the ids of its sessions, and the name by which it is undone."""

    tag: bytes
    name: str


@dataclass(slots=True)
class Outcome:
    """What becomes of a batch."""

    new: dict[bytes, EarlierSession] = field(default_factory=dict)
    """By key."""
    known: int = 0
    """How many were in the database before the run."""
    repeats: list[int] = field(default_factory=list)
    """The places of those whose id an earlier line has."""


def decide(batch: Sequence[EarlierSession], found: Mapping[bytes, bytes], run: bytes) -> Outcome:
    """What becomes of each session of a batch.

    Args:
        batch: in the order of the lines.
        found: by key, the ids of sessions that are there already.
        run: what ends those ids that this run has stored.
    """
    outcome = Outcome()
    new = outcome.new
    for place, session in enumerate(batch):
        key = session.key
        id_ = found.get(key)
        if id_ is None and key not in new:
            new[key] = session
        elif id_ is None or id_.endswith(run):
            outcome.repeats.append(place)
        else:
            outcome.known += 1
    return outcome


async def find_known(
    connection: asyncpg.Connection, batch: Sequence[EarlierSession]
) -> dict[bytes, bytes]:
    """By key, the ids of those that are there already."""
    keys = [session.key.hex() for session in batch for _ in session.months]
    first_days = {month: f"{month}-01" for session in batch for month in session.months}
    months = [first_days[month] for session in batch for month in session.months]
    rows = await connection.fetch(
        statement("imported_before"),
        _array([key + _FIRST for key in keys]),
        _array([key + _LAST for key in keys]),
        _array(months),
    )
    return {id_[:KEY_BYTES]: id_ for id_ in (row["id"].bytes for row in rows)}


def _array(texts: Sequence[str]) -> str:
    """An array as PostgreSQL writes it, of what needs no quotation marks."""
    return f"{{{','.join(texts)}}}"


class Destination(Protocol):
    """Where batches go."""

    async def write(self, batch: Sequence[EarlierSession]) -> Outcome:
        """Stores what is new of a batch: all of that is committed when this returns, or none.

        Raises:
            DeadLetter: PostgreSQL refuses it, or a month was dropped.
            Retry: PostgreSQL is away or busy, for some seconds.
        """


class DryRun:
    """Stores nothing, and says what would become of it.

    What it would have stored it keeps in a temporary table: a file may be larger than memory.
    """

    def __init__(self, database: Database, run: Run) -> None:
        self._database = database
        self._run = run
        self._begun = False

    async def write(self, batch: Sequence[EarlierSession]) -> Outcome:
        if not batch:
            return Outcome()
        async with self._database.connection() as connection:
            if not self._begun:
                await connection.execute(statement("create_keys_of_dry_run"))
                self._begun = True
            found = await find_known(connection, batch)
            unknown = {session.key for session in batch} - found.keys()
            asked = _array([key.hex() + _FIRST for key in unknown])
            rows = await connection.fetch(statement("add_keys_of_dry_run"), asked)
            new = {row["id"].bytes[:KEY_BYTES] for row in rows}
        tag = self._run.tag
        return decide(batch, found | {key: key + tag for key in unknown - new}, tag)


class ImportWriter:
    """Stores one run."""

    def __init__(self, database: Database, zone: ZoneInfo, run: Run) -> None:
        self._database = database
        self._months = SessionWriter(database, zone)
        self._run = run
        self._stored = 0
        self._tried = Outcome()

    async def write(self, batch: Sequence[EarlierSession]) -> Outcome:
        if not batch:
            return Outcome()
        await self._months.create_months({session.months[0] for session in batch})
        self._tried = Outcome()

        async def attempt() -> Outcome:
            async with self._database.connection() as connection, connection.transaction():
                return await self._write(connection, batch)

        outcome = await retry(attempt, Retry, Backoff(1, 1), within=_PAUSES_SECONDS)
        self._stored += len(outcome.new)
        return outcome

    async def _write(
        self, connection: asyncpg.Connection, batch: Sequence[EarlierSession]
    ) -> Outcome:
        await locks.take(connection, Lock.IMPORTS)
        tag = self._run.tag
        if self._tried.new:
            stored = await connection.fetchval(statement("imported_by_run"), tag.hex())
            if stored == self._stored + len(self._tried.new):
                return self._tried  # the attempt before was committed, and its answer lost
        found = await find_known(connection, batch)
        outcome = self._tried = decide(batch, found, tag)
        if not outcome.new:
            return outcome
        await locks.share(connection, Lock.SESSIONS)
        rows = [session.row for session in outcome.new.values()]
        await connection.copy_to_table(
            "sessions",
            # As `flusher/postgres/write.py` does.
            source=copy_source(sorted(rows)),  # type: ignore[arg-type]
            columns=COLUMNS,
            format="binary",
        )
        months = Counter(session.months[0] for session in outcome.new.values())
        first_days, numbers = [month.first_day for month in months], list(months.values())
        await connection.execute(
            statement("note_import"), tag.hex(), self._run.name, first_days, numbers
        )
        counts = Counts()
        counts.add_rows(rows)
        # No upgrade can be of these sessions: nobody was told their ids, and the earlier system
        # made their hashes.
        await locks.take(connection, Lock.UPGRADES)
        await store_counts(connection, counts)
        return outcome
