"""Step 4 of an import: its sessions into PostgreSQL, a batch a transaction, each once; or, in a dry
run, only whether they would be stored.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Protocol
from zoneinfo import ZoneInfo

import asyncpg

from contract.calendar import Month
from contract.errors import Retry
from flusher.imports.earlier_sessions import KEY_BYTES, RUN_BYTES, Kind
from flusher.imports.line_batches import LineBatch
from flusher.postgres import locks
from flusher.postgres.database import Database
from flusher.postgres.locks import Lock
from flusher.postgres.statements import statement
from flusher.postgres.store_counts import store_counts
from flusher.postgres.write import SessionWriter
from flusher.rows.copy_format import COLUMNS
from runtime.retry import Backoff, retry

_PAUSES_SECONDS: Final = 4.0
# The first and the last that may follow a key in an id.
_FIRST: Final = b"\0" * RUN_BYTES
_LAST: Final = b"\xff" * RUN_BYTES
_ID_BYTES: Final = KEY_BYTES + RUN_BYTES


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what ends the ids of its sessions, and the name by which it is undone."""

    tag: bytes
    name: str


@dataclass(slots=True)
class Outcome:
    """What becomes of a batch, by the places of its sessions."""

    new: Sequence[int] = ()
    repeats: Sequence[int] = ()
    """Those whose id an earlier line has."""
    known: int = 0
    """How many were in the database before the run."""


def decide(keys: Sequence[bytes], found: Mapping[bytes, bytes], run: bytes) -> Outcome:
    """What becomes of each session of a batch.

    Args:
        keys: theirs, in the order of the lines.
        found: by key, the ids of sessions that are there already.
        run: what ends those ids that this run has stored.
    """
    if not found and len(set(keys)) == len(keys):  # as nearly always
        return Outcome(range(len(keys)))
    new: dict[bytes, int] = {}
    repeats, known = [], 0
    for place, key in enumerate(keys):
        id_ = found.get(key)
        if id_ is None and key not in new:
            new[key] = place
        elif id_ is None or id_.endswith(run):
            repeats.append(place)
        else:
            known += 1
    return Outcome(list(new.values()), repeats, known)


async def find_known(
    connection: asyncpg.Connection, batch: LineBatch, alone: Collection[Month] = ()
) -> dict[bytes, bytes]:
    """By key, the ids of those that are there already.

    Args:
        connection: to the database.
        batch: the sessions.
        alone: months in which none can be of another run, and COPY tells those of this one: so
            of their own sessions it is not asked.
    """
    of_kind: defaultdict[Kind, list[bytes]] = defaultdict(list)
    for key, kind in zip(batch.keys, batch.kinds, strict=True):
        of_kind[kind].append(key)
    asked: defaultdict[Month, list[bytes]] = defaultdict(list)
    for kind, keys in of_kind.items():
        for place, month in enumerate(kind.months):
            if place or month not in alone:
                asked[month] += keys
    known = {}
    for month, keys in asked.items():
        keys.sort()  # so that neighbours in the primary key come together
        rows = await connection.fetch(
            statement("imported_before"), _ids(keys, _FIRST), _ids(keys, _LAST), month.first_day
        )
        known.update({id_[:KEY_BYTES]: id_ for id_ in (row["id"].bytes for row in rows)})
    return known


def _ids(keys: Sequence[bytes], end: bytes) -> str:
    """An array of ids as PostgreSQL writes it, which is made in a third of the time."""
    return f"{{{(end.join(keys) + end).hex(',', -_ID_BYTES) if keys else ''}}}"


class Destination(Protocol):
    """Where batches go."""

    async def write(self, batch: LineBatch) -> Outcome:
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

    async def write(self, batch: LineBatch) -> Outcome:
        if not batch.keys:
            return Outcome()
        async with self._database.connection() as connection:
            if not self._begun:
                await connection.execute(statement("create_keys_of_dry_run"))
                self._begun = True
            found = await find_known(connection, batch)
            unknown = set(batch.keys) - found.keys()
            rows = await connection.fetch(
                statement("add_keys_of_dry_run"), _ids(list(unknown), _FIRST)
            )
            new = {row["id"].bytes[:KEY_BYTES] for row in rows}
        tag = self._run.tag
        return decide(batch.keys, found | {key: key + tag for key in unknown - new}, tag)


class ImportWriter:
    """Stores one run."""

    def __init__(self, database: Database, zone: ZoneInfo, run: Run) -> None:
        self._database = database
        self._months = SessionWriter(database, zone)
        self._run = run
        self._stored = 0
        self._tried = Outcome()
        self._begun_empty: dict[Month, bool] = {}

    async def write(self, batch: LineBatch) -> Outcome:
        if not batch.keys:
            return Outcome()
        await self._months.create_months({kind.months[0] for kind in set(batch.kinds)})
        self._tried = Outcome()

        async def attempt() -> Outcome:
            async with self._database.connection() as connection:
                try:
                    return await self._write(connection, batch, looks=False)
                except asyncpg.UniqueViolationError:  # of a repeat within the file
                    return await self._write(connection, batch, looks=True)

        outcome = await retry(attempt, Retry, Backoff(1, 1), within=_PAUSES_SECONDS)
        self._stored += len(outcome.new)
        return outcome

    async def _write(
        self, connection: asyncpg.Connection, batch: LineBatch, *, looks: bool
    ) -> Outcome:
        async with connection.transaction():
            await locks.take(connection, Lock.IMPORTS)
            tag = self._run.tag
            if self._tried.new:
                stored = await connection.fetchval(statement("imported_by_run"), tag.hex())
                if stored == self._stored + len(self._tried.new):
                    return self._tried  # the attempt before was committed, and its answer lost
            alone = () if looks else await self._alone_in(connection, batch)
            found = await find_known(connection, batch, alone)
            outcome = self._tried = decide(batch.keys, found, tag)
            if not outcome.new:
                return outcome
            new = batch.to_store(outcome.new)
            await locks.share(connection, Lock.SESSIONS)
            await connection.copy_to_table(
                "sessions",
                source=new.source,  # type: ignore[arg-type]  # as in flusher/postgres/write.py
                columns=COLUMNS,
                format="binary",
            )
            months: Counter[date] = Counter()
            for kind, number in new.kinds.items():
                months[kind.months[0].first_day] += number
            await connection.execute(
                statement("note_import"),
                tag.hex(),
                self._run.name,
                list(months),
                list(months.values()),
            )
            # No upgrade can be of these sessions: nobody was told their ids, and the earlier system
            # made their hashes.
            await locks.take(connection, Lock.UPGRADES)
            await store_counts(connection, new.changes)
            return outcome

    async def _alone_in(self, connection: asyncpg.Connection, batch: LineBatch) -> set[Month]:
        """The months of a batch that were empty when this run came to them, and in which no other
        run has stored anything since.

        So none of their sessions was known before, and of those that this run has stored
        COPY finds the repeats.
        """
        months = {kind.months[0] for kind in set(batch.kinds)}
        alone = set()
        for month in months:
            (there,) = await connection.fetch(
                statement("who_was_there"), month.first_day, self._run.tag.hex()
            )
            if self._begun_empty.setdefault(month, not there["any"]) and not there["others"]:
                alone.add(month)
        return alone
