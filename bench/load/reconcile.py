"""Compares the rows in PostgreSQL with what the collector answered, row by row.

`compare` is pure; `reconcile` reads the rows for it; `settle` waits for the flushers first.

    sent_log = SentLog()  # written while requests are sent
    differences = await settle(sent_log, dsn, zone, patience_seconds=60)
    assert differences.exact, differences.examples
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, tzinfo
from importlib.resources import files

from bench.load.sent_log import Outcome, Request, SentLog, Session, Who, id_text
from contract.calendar import month_at
from contract.errors import Retry
from flusher.postgres.database import Database

# How far the collector's clock may be from the sender's.
CLOCK_TOLERANCE_US = 2_000_000
# The ids of the rows that are read may be this much earlier or later than the run's.
_MARGIN_SECONDS = 60
_EXAMPLES = 10
# Differences that a wrong setting makes, too.
WRONG_ROLE, SHARED_HASH = "role", "different people with one hash"
_POLL_SECONDS = 0.5
_POLL_SHARE = 4  # a pause is four times a comparison: others use the database, too

_ROWS = files("bench.load").joinpath("rows_of_run.sql").read_text()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `sessions`; instants in microseconds since the epoch."""

    id: bytes
    month: date
    site: str
    hash: bytes
    role: str | None
    created_us: int
    upgraded_us: int | None


@dataclass(slots=True)
class Differences:
    """A comparison: of rows that are added in the order of their ids, then `finish`."""

    sent_log: SentLog = field(repr=False)
    zone: tzinfo  # divides the months (`CALENDAR_TIMEZONE`)
    expected: int = 0  # sessions that were answered 201
    found: int = 0  # sessions of this run that have a row
    unanswered_found: int = 0  # of `found`: without a conclusive answer, so they may have a row
    lost: int = 0  # sessions that were answered 201 and have no row
    twice: int = 0  # rows beyond a session's first
    invented: int = 0  # rows of this run that were never sent, or were answered 204 or 4xx
    wrong: int = 0  # rows with a wrong column, or with another person's hash
    misjudged: int = 0  # wrong answers: 201 for a crawler, 204 or 4xx for a person
    not_upgraded: int = 0  # of `wrong`: the upgrade was answered 202 and is not stored (yet)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    _seen: set[bytes] = field(default_factory=set, repr=False)
    # By month, site and person (a user or a visitor): the first hash that was seen.
    _hashes: dict[tuple[date, str, bool, int], bytes] = field(default_factory=dict, repr=False)

    @property
    def exact(self) -> bool:
        return not (self.lost or self.twice or self.invented or self.wrong or self.misjudged)

    @property
    def settled(self) -> bool:
        """Whether everything that was promised is stored."""
        return not (self.lost or self.not_upgraded)

    def note(self, reason: str, id_: bytes, detail: str = "") -> None:
        """Counts a reason, and keeps the first few as examples."""
        self.reasons[reason] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"{id_text(id_)} {reason}{detail and ': '}{detail}")

    def counts(self) -> dict[str, int]:
        """The figures, for a table."""
        return {
            "expected": self.expected,
            "found": self.found,
            "of them unanswered": self.unanswered_found,
            "lost": self.lost,
            "twice": self.twice,
            "invented": self.invented,
            "wrong": self.wrong,
            "wrong answers": self.misjudged,
        }

    def lines(self) -> Iterator[str]:
        """What differs, in words."""
        for reason, count in self.reasons.most_common():
            yield f"{count:,} x {reason}"
        yield from (f"  {example}" for example in self.examples)

    def add(self, row: Row) -> None:
        """Compares one row of this run with what was answered."""
        session = self.sent_log.find(row.id)
        if session is None:
            self.invented += 1
            self.note("an id that was never sent", row.id)
            return
        outcome = session.start.outcome
        if outcome not in (Outcome.ACCEPTED, Outcome.UNKNOWN):
            self.invented += 1
            self.note("a row that must not be", row.id, f"its start was {outcome.name}")
            return
        if row.id in self._seen:
            self.twice += 1
            self.note("a second row", row.id, f"of {row.month}")
            return
        self._seen.add(row.id)
        self.found += 1
        self.unanswered_found += outcome is Outcome.UNKNOWN
        of_upgrade = list(self._faults_of_upgrade(session, row))
        faults = [*self._faults_of_start(session, row), *of_upgrade]
        # If the upgrade is wrong, it is not known which hash is right.
        if not of_upgrade and self._has_another_hash(session, row):
            faults.append(("one person with two hashes", ""))
        self.wrong += bool(faults)
        for fault, detail in faults:
            self.note(fault, row.id, detail)

    def finish(self) -> None:
        """Adds what only shows when all rows were compared: those that are missing."""
        for session in self.sent_log.sessions:
            if session.start.outcome is Outcome.ACCEPTED:
                self.expected += 1
                if session.id not in self._seen:
                    self.lost += 1
                    self.note("lost", session.id)
        shared = len(self._hashes) - len(set(self._hashes.values()))
        if shared:
            self.wrong += shared
            self.reasons[SHARED_HASH] += shared
        self.misjudged = self.sent_log.misjudged.total()
        self.reasons.update(self.sent_log.misjudged)

    def _faults_of_start(self, session: Session, row: Row) -> Iterator[tuple[str, str]]:
        if row.site != session.site:
            yield "site", f"{row.site}, not {session.site}"
        if row.month != month_at(row.created_us, self.zone).first_day:
            yield "month", f"{row.month}, with another created_at"
        if not _within(row.created_us, session.start):
            yield "created_at", "not when it was sent"

    def _faults_of_upgrade(self, session: Session, row: Row) -> Iterator[tuple[str, str]]:
        is_user, outcome = session.who is Who.USER, session.upgrade.outcome
        if outcome is Outcome.UNKNOWN:
            upgraded = not is_user and row.upgraded_us is not None
        else:
            upgraded = not is_user and outcome is Outcome.ACCEPTED
        role = session.role if is_user or upgraded else None
        if upgraded and row.upgraded_us is None:
            self.not_upgraded += 1
            yield "not upgraded", ""
            return
        if row.role != role:
            yield WRONG_ROLE, f"{row.role}, not {role}"
        if row.upgraded_us is None:
            return
        if not upgraded:
            yield "upgraded, and must not be", ""
        elif not _within(row.upgraded_us, session.upgrade):
            yield "upgraded_at", "not when it was sent"

    def _has_another_hash(self, session: Session, row: Row) -> bool:
        """Whether the person had another hash in an earlier row of the month and site."""
        user = session.who is Who.USER or (
            # In a later month the salt is gone: the hash stays the visitor's.
            row.upgraded_us is not None
            and month_at(row.upgraded_us, self.zone).first_day == row.month
        )
        person = session.user if user else session.visitor
        return (
            self._hashes.setdefault((row.month, session.site, user, person), row.hash) != row.hash
        )


def compare(sent_log: SentLog, rows: Iterable[Row], zone: tzinfo) -> Differences:
    """Compares the rows of this run, given in the order of their ids, with what was answered."""
    differences = Differences(sent_log, zone)
    for row in rows:
        differences.add(row)
    differences.finish()
    return differences


async def reconcile(sent_log: SentLog, dsn: str, zone: tzinfo) -> Differences:
    """Compares the rows in a database with what was answered. Raises as `read_rows`.

    `zone` divides the months (`CALENDAR_TIMEZONE`).
    """
    return compare(sent_log, await read_rows(sent_log, dsn), zone)


async def read_rows(sent_log: SentLog, dsn: str) -> list[Row]:
    """The rows of a run, in the order of their ids. SELECT on `sessions` is enough.

    Raises:
        Misconfigured: the DSN is wrong, or the database was not migrated.
        Retry: PostgreSQL is away.
    """
    if not sent_log.sessions:
        return []
    first, last = map(id_text, sent_log.id_bounds(_MARGIN_SECONDS))
    async with Database(dsn) as database, database.connection() as connection:
        return [Row(*record) for record in await connection.fetch(_ROWS, first, last, sent_log.tag)]


async def settle(
    sent_log: SentLog,
    dsn: str,
    zone: tzinfo,
    patience_seconds: float,
    *,
    aftermath_seconds: float = 2.5,
) -> Differences:
    """Waits until the flushers have caught up, then reconciles.

    Waits at most `patience_seconds` without progress. When everything that was promised is stored,
    waits `aftermath_seconds` for rows that must not come: longer than a flusher takes for a batch.

    Raises:
        Misconfigured, Retry: as `read_rows`.
    """
    loop = asyncio.get_running_loop()
    last: tuple[int, int] | None = None
    moved = loop.time()
    while loop.time() - moved < patience_seconds:
        began = loop.time()
        with suppress(Retry):  # PostgreSQL may come back in time
            differences = await reconcile(sent_log, dsn, zone)
            if differences.settled:
                await asyncio.sleep(aftermath_seconds)
                break
            if last != (progress := (differences.found, differences.not_upgraded)):
                last, moved = progress, loop.time()
        await asyncio.sleep(max(_POLL_SECONDS, _POLL_SHARE * (loop.time() - began)))
    return await reconcile(sent_log, dsn, zone)


def _within(at_us: int, request: Request) -> bool:
    last_us = request.accepted_us
    return at_us >= request.sent_us - CLOCK_TOLERANCE_US and (
        last_us is None or at_us <= last_us + CLOCK_TOLERANCE_US
    )
