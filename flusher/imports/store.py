"""Step 4 of an import: stores its sessions in PostgreSQL, each once, a batch in each transaction.
A dry run only finds out which sessions would be stored.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
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
from runtime.periodic import Backoff, retry

_PAUSES_SECONDS: Final = 4.0
# The lowest and the highest bytes that may follow a key in an id.
_FIRST: Final = b"\0" * RUN_BYTES
_LAST: Final = b"\xff" * RUN_BYTES
_ID_BYTES: Final = KEY_BYTES + RUN_BYTES


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an import: the last bytes of its sessions' ids, and the name for `--undo`."""

    tag: bytes
    name: str


@dataclass(slots=True)
class Outcome:
    """What happens to a batch. Sessions are given by their places in it."""

    new: Sequence[int] = ()
    repeats: Sequence[int] = ()
    """Sessions with the id of an earlier line."""
    known: int = 0
    """How many were in the database before the run."""


def decide(keys: Sequence[bytes], found: Mapping[bytes, bytes], run: bytes) -> Outcome:
    """What happens to each session of a batch.

    Args:
        keys: the sessions' keys, in the order of the lines.
        found: by key, the ids of sessions that are already stored.
        run: the last bytes of the ids that this run has stored.
    """
    if not found and len(set(keys)) == len(keys):  # the usual case
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
    connection: asyncpg.Connection, batch: LineBatch, own_months: Collection[Month] = ()
) -> dict[bytes, bytes]:
    """By key, the ids of the batch's sessions that are already stored.

    Sessions of `own_months` are not looked up in their own month: no other run has stored sessions
    there, and COPY fails for those that this run has stored.
    """
    of_kind: defaultdict[Kind, list[bytes]] = defaultdict(list)
    for key, kind in zip(batch.keys, batch.kinds, strict=True):
        of_kind[kind].append(key)
    queried: defaultdict[Month, list[bytes]] = defaultdict(list)
    for kind, keys in of_kind.items():
        for place, month in enumerate(kind.months):
            if place or month not in own_months:
                queried[month] += keys
    known = {}
    for month, keys in queried.items():
        keys.sort()  # the order of the primary key
        rows = await connection.fetch(
            statement("imported_before"), _ids(keys, _FIRST), _ids(keys, _LAST), month.first_day
        )
        known.update({id_[:KEY_BYTES]: id_ for id_ in (row["id"].bytes for row in rows)})
    return known


def _ids(keys: Sequence[bytes], end: bytes) -> str:
    """An array of ids as PostgreSQL's text, which takes a third of the time of a list."""
    return f"{{{(end.join(keys) + end).hex(',', -_ID_BYTES) if keys else ''}}}"


class DryRun:
    """Stores nothing, and says what would be stored.

    The keys of these sessions (each as the lowest id that the session may have) are kept in a
    temporary table, since a file may be larger than memory.
    """

    def __init__(self, database: Database, run: Run) -> None:
        self._database = database
        self._tag = run.tag
        self._begun = False

    async def write(self, batch: LineBatch) -> Outcome:
        """As `ImportWriter.write`, but stores nothing."""
        if not batch.keys:
            return Outcome()
        async with self._database.connection() as connection:
            if not self._begun:
                await connection.execute(
                    "CREATE TEMPORARY TABLE keys_of_dry_run (id uuid PRIMARY KEY)"
                )
                self._begun = True
            found = await find_known(connection, batch)
            unknown = set(batch.keys) - found.keys()
            rows = await connection.fetch(
                statement("add_keys_of_dry_run"), _ids(list(unknown), _FIRST)
            )
        repeated = unknown - {row["id"].bytes[:KEY_BYTES] for row in rows}
        return decide(batch.keys, found | {key: key + self._tag for key in repeated}, self._tag)


class ImportWriter:
    """Stores the sessions of one run."""

    def __init__(self, database: Database, zone: ZoneInfo, run: Run) -> None:
        self._database = database
        self._months = SessionWriter(database, zone)
        self._run = run
        self._stored = 0
        self._tried = Outcome()
        self._was_empty: dict[Month, bool] = {}

    async def write(self, batch: LineBatch) -> Outcome:
        """Stores the new sessions of a batch: when this returns, all of them are committed.

        Raises:
            DeadLetter: PostgreSQL refuses the batch, or a month was dropped.
            Retry: PostgreSQL has been away or busy for some seconds.
        """
        if not batch.keys:
            return Outcome()
        await self._months.create_months({kind.months[0] for kind in set(batch.kinds)})
        self._tried = Outcome()

        async def attempt() -> Outcome:
            async with self._database.connection() as connection:
                try:
                    return await self._write(connection, batch, query_all=False)
                except asyncpg.UniqueViolationError:  # a repeat within the file
                    return await self._write(connection, batch, query_all=True)

        outcome = await retry(attempt, Retry, Backoff(1, 1), within=_PAUSES_SECONDS)
        self._stored += len(outcome.new)
        return outcome

    async def _write(
        self, connection: asyncpg.Connection, batch: LineBatch, *, query_all: bool
    ) -> Outcome:
        async with connection.transaction():
            await locks.take(connection, Lock.IMPORTS)
            tag = self._run.tag
            if self._tried.new:
                query = "SELECT sum(sessions) FROM flusher.imports WHERE run = $1"
                stored = await connection.fetchval(query, tag.hex())
                if stored == self._stored + len(self._tried.new):
                    return self._tried  # the last attempt was committed, but its answer was lost
            own_months = () if query_all else await self._own_months(connection, batch)
            found = await find_known(connection, batch, own_months)
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
            await connection.execute(
                statement("note_import"),
                tag.hex(),
                self._run.name,
                list(new.months),
                list(new.months.values()),
            )
            # No upgrade can belong to these sessions: no client knows their ids, and their hashes
            # are the earlier system's.
            await locks.take(connection, Lock.UPGRADES)
            await store_counts(connection, new.changes)
            return outcome

    async def _own_months(self, connection: asyncpg.Connection, batch: LineBatch) -> set[Month]:
        """The batch's months that were empty when this run first used them, and in which no other
        run has stored sessions since.
        """
        own = set()
        for month in {kind.months[0] for kind in set(batch.kinds)}:
            (there,) = await connection.fetch(
                statement("who_was_there"), month.first_day, self._run.tag.hex()
            )
            if self._was_empty.setdefault(month, not there["any"]) and not there["others"]:
                own.add(month)
        return own
