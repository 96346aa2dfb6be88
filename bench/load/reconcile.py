"""Whether the rows in PostgreSQL are those that callers were told of, row by row.

`compare` is pure; `reconcile` gives it the rows; `settle` waits for the flushers first.

    sent_log = SentLog(sites, role_of)  # written while requests are sent
    differences = await settle(sent_log, dsn, zone, patience_seconds=60)
    assert differences.exact, differences.examples
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, tzinfo
from importlib.resources import files

import asyncpg

from bench.load.sent_log import Outcome, SentLog, Who
from contract.calendar import month_at
from contract.errors import Misconfigured, Retry

# How far the collector's clock may be from the sender's.
CLOCK_TOLERANCE_US = 2_000_000
# Ids that nobody sent are looked for in the run's time and this much around it.
_MARGIN_SECONDS = 60
_EXAMPLES = 10
_POLL_SECONDS = 0.5
_POLL_SHARE = 4  # a look may cost a fifth of the time at the most: others use the database
_ROWS_A_FETCH = 5_000
_CONNECT_SECONDS = 10.0
_DSN_EXAMPLE = "DATABASE_URL=postgresql://impact@localhost/impact"

_CONFIGURATION = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedTableError,
)
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that the server ended meanwhile
)

_ROWS = files("bench.load").joinpath("rows_of_run.sql").read_text()
_PROGRESS = files("bench.load").joinpath("progress_of_run.sql").read_text()


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
    """The result of a comparison, in rows (`misjudged`: in answers).

    `expected` were told (201), `found` are the sessions of this run that have a row. Then what
    must not be: `lost` were told and are not there; `twice` are rows beyond a session's first;
    `invented` are rows of this run that nobody was told of (never sent, or answered 204 or 4xx);
    `wrong` differ in a column or in whom they are said to be; `misjudged` are answers that were
    not the right ones (a crawler's 201, a person's 204 or 4xx).
    `unanswered` is no difference: sessions of which no answer was conclusive, and which of them
    have a row is not known beforehand; `unanswered_found` have one.
    """

    expected: int = 0
    found: int = 0
    lost: int = 0
    twice: int = 0
    invented: int = 0
    wrong: int = 0
    misjudged: int = 0
    unanswered: int = 0
    unanswered_found: int = 0
    not_upgraded: int = 0  # of `wrong`: the upgrade was told and is not there (yet)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        return not (self.lost or self.twice or self.invented or self.wrong or self.misjudged)

    @property
    def settled(self) -> bool:
        """Whether nothing that was told is still missing."""
        return not (self.lost or self.not_upgraded)

    def note(self, reason: str, id_: bytes, detail: str = "") -> None:
        """Counts a reason, and keeps the first few as examples."""
        self.reasons[reason] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"{uuid.UUID(bytes=id_)} {reason}{detail and ': '}{detail}")


class Comparison:
    """Takes rows one by one, in the order of their ids; then `finish`."""

    def __init__(self, sent_log: SentLog, zone: tzinfo) -> None:
        """
        Args:
            sent_log: what was sent and answered.
            zone: whose calendar months count (`CALENDAR_TIMEZONE`).
        """
        self._sent_log = sent_log
        self._zone = zone
        self._differences = Differences()
        self._seen = bytearray(len(sent_log))
        # The identity that a row must have, as a number, and the first hash it was seen with.
        self._hashes: dict[int, bytes] = {}

    def row(self, row: Row) -> None:
        """Compares one row of this run."""
        sent_log, differences = self._sent_log, self._differences
        number = sent_log.number_of(row.id)
        if number is None:
            differences.invented += 1
            differences.note("an id that was never sent", row.id)
            return
        outcome = sent_log.start_outcome(number)
        if outcome not in (Outcome.ACCEPTED, Outcome.UNKNOWN):
            differences.invented += 1
            differences.note("a row that must not be", row.id, f"its start was {outcome.name}")
            return
        if self._seen[number]:
            differences.twice += 1
            differences.note("a second row", row.id, f"of {row.month}")
            return
        self._seen[number] = 1
        differences.found += 1
        differences.unanswered_found += outcome is Outcome.UNKNOWN
        of_upgrade = self._faults_of_upgrade(number, row)
        faults = self._faults_of_start(number, row) + of_upgrade
        if not of_upgrade:  # else it is not clear whose hash it should be
            faults += self._faults_of_hash(number, row)
        if faults:
            differences.wrong += 1
        for fault, detail in faults:
            differences.note(fault, row.id, detail)

    def finish(self) -> Differences:
        """What it came to, with the rows that are missing."""
        sent_log, differences = self._sent_log, self._differences
        for number in range(len(sent_log)):
            outcome = sent_log.start_outcome(number)
            differences.unanswered += outcome is Outcome.UNKNOWN
            if outcome is Outcome.ACCEPTED:
                differences.expected += 1
                if not self._seen[number]:
                    differences.lost += 1
                    differences.note("lost", sent_log.id_of(number))
        shared = len(self._hashes) - len(set(self._hashes.values()))
        if shared:
            differences.wrong += shared
            differences.reasons["different people with one hash"] += shared
        differences.misjudged = sent_log.misjudged.total()
        differences.reasons.update(sent_log.misjudged)
        return differences

    def _faults_of_start(self, number: int, row: Row) -> list[tuple[str, str]]:
        sent_log = self._sent_log
        faults = []
        if row.site != sent_log.site(number):
            faults.append(("site", f"{row.site}, not {sent_log.site(number)}"))
        if row.month != month_at(row.created_us, self._zone).first_day:
            faults.append(("month", f"{row.month}, with another created_at"))
        if not _within(row.created_us, sent_log.start_window_us(number)):
            faults.append(("created_at", "not when it was sent"))
        return faults

    def _faults_of_upgrade(self, number: int, row: Row) -> list[tuple[str, str]]:
        sent_log = self._sent_log
        if sent_log.who(number) is Who.USER:
            upgraded = False
            role: str | None = sent_log.role_of(sent_log.user(number))
        else:
            outcome = sent_log.upgrade_outcome(number)
            if outcome is Outcome.UNKNOWN:
                upgraded = row.upgraded_us is not None
            else:
                upgraded = outcome is Outcome.ACCEPTED
            role = sent_log.role_of(sent_log.user(number)) if upgraded else None
        faults = []
        if upgraded and row.upgraded_us is None:
            self._differences.not_upgraded += 1
            return [("not upgraded", "")]
        if not upgraded and row.upgraded_us is not None:
            faults.append(("upgraded, and must not be", ""))
        if row.role != role:
            faults.append(("role", f"{row.role}, not {role}"))
        if (
            upgraded
            and row.upgraded_us is not None
            and not _within(row.upgraded_us, sent_log.upgrade_window_us(number))
        ):
            faults.append(("upgraded_at", "not when it was sent"))
        return faults

    def _faults_of_hash(self, number: int, row: Row) -> list[tuple[str, str]]:
        sent_log = self._sent_log
        user = sent_log.who(number) is Who.USER or (
            # In a later month the salt is gone: the hash stays the visitor's.
            row.upgraded_us is not None
            and month_at(row.upgraded_us, self._zone).first_day == row.month
        )
        person = sent_log.user(number) if user else sent_log.visitor(number)
        months = row.month.year * 12 + row.month.month
        identity = ((months << 16 | sent_log.site_index(number)) << 1 | user) << 32 | person
        known = self._hashes.setdefault(identity, row.hash)
        return [] if known == row.hash else [("one person with two hashes", "")]


def compare(sent_log: SentLog, rows: Iterable[Row], zone: tzinfo) -> Differences:
    """What differs between what was told and the rows of this run, given in the order of ids."""
    comparison = Comparison(sent_log, zone)
    for row in rows:
        comparison.row(row)
    return comparison.finish()


async def reconcile(sent_log: SentLog, dsn: str, zone: tzinfo) -> Differences:
    """What differs between what was told and what is in the database now.

    Args:
        sent_log: what was sent and answered.
        dsn: the database; SELECT on `sessions` is enough.
        zone: whose calendar months count (`CALENDAR_TIMEZONE`).

    Raises:
        Misconfigured: the DSN is wrong, or the database was not migrated.
        Retry: PostgreSQL is away.
    """
    comparison = Comparison(sent_log, zone)
    if len(sent_log):
        async with _connected(dsn) as connection, connection.transaction():
            async for record in connection.cursor(
                _ROWS, *_bounds(sent_log), prefetch=_ROWS_A_FETCH
            ):
                comparison.row(Row(*record))
    return comparison.finish()


async def read_rows(sent_log: SentLog, dsn: str) -> list[Row]:
    """The rows of a run that has few.

    Raises:
        Misconfigured, Retry: as `reconcile`.
    """
    async with _connected(dsn) as connection:
        return [Row(*record) for record in await connection.fetch(_ROWS, *_bounds(sent_log))]


async def settle(
    sent_log: SentLog,
    dsn: str,
    zone: tzinfo,
    patience_seconds: float,
    *,
    interrupted: asyncio.Event | None = None,
    progress: Callable[[int, int], None] | None = None,
    aftermath_seconds: float = 2.5,
) -> Differences:
    """Waits until the flushers have caught up, then reconciles.

    Args:
        sent_log: what was sent and answered.
        dsn: the database.
        zone: whose calendar months count.
        patience_seconds: without progress for so long (PostgreSQL being away is none), what is
            there by then is compared.
        interrupted: when set, likewise at once.
        progress: called after each look with the rows and the upgraded rows found.
        aftermath_seconds: how long to go on waiting when all that was told is there, for what
            should not come: longer than a flusher takes for a batch.

    Raises:
        Misconfigured: the DSN is wrong, or the database was not migrated.
        Retry: PostgreSQL is away, also in the end.
    """
    stop = asyncio.Event() if interrupted is None else interrupted
    loop = asyncio.get_running_loop()
    wanted = sent_log.expected()
    last: tuple[int, int] | None = None
    moved = loop.time()
    while not stop.is_set() and loop.time() - moved < patience_seconds:
        began = loop.time()
        try:
            found = await count_rows(sent_log, dsn)
            took = loop.time() - began
            if found != last:
                last, moved = found, loop.time()
                if progress is not None:
                    progress(*found)
                # Rows that need not be there may have made up the number: so look closely.
                if found[0] >= wanted[0] and found[1] >= wanted[1]:
                    differences = await reconcile(sent_log, dsn, zone)
                    if differences.settled:
                        await _pause(stop, aftermath_seconds)
                        break
        except Retry:
            took = 0.0
        await _pause(stop, max(_POLL_SECONDS, took * _POLL_SHARE))
    return await reconcile(sent_log, dsn, zone)


async def count_rows(sent_log: SentLog, dsn: str) -> tuple[int, int]:
    """How many rows of this run there are, and how many of them upgraded.

    Raises:
        Misconfigured, Retry: as `reconcile`.
    """
    if not len(sent_log):
        return 0, 0
    async with _connected(dsn) as connection:
        record = await connection.fetchrow(_PROGRESS, *_bounds(sent_log))
    return (record[0], record[1]) if record is not None else (0, 0)


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=_CONNECT_SECONDS,
            server_settings={"application_name": "impact-tracking load", "timezone": "UTC"},
        )
    except ValueError as error:  # asyncpg's for a DSN that it can't read
        raise Misconfigured("DATABASE_URL", str(error), _DSN_EXAMPLE) from None
    except _CONFIGURATION as error:
        raise Misconfigured("DATABASE_URL", str(error), _DSN_EXAMPLE) from None
    except _AWAY as error:
        raise _away(error) from None
    try:
        yield connection
    except _CONFIGURATION as error:
        problem = f"{error}; has `python -m flusher migrate` been run there?"
        raise Misconfigured("DATABASE_URL", problem, _DSN_EXAMPLE) from None
    except _AWAY as error:
        raise _away(error) from None
    finally:
        connection.terminate()


def _away(error: Exception) -> Retry:
    why = str(error) or type(error).__name__
    return Retry("postgres_away", f"PostgreSQL can't be asked: {why}")


def _bounds(sent_log: SentLog) -> tuple[uuid.UUID, uuid.UUID, bytes]:
    first, last = sent_log.id_bounds(_MARGIN_SECONDS)
    return uuid.UUID(bytes=first), uuid.UUID(bytes=last), sent_log.tag


def _within(at_us: int, window: tuple[int, int | None]) -> bool:
    first, last = window
    return at_us >= first - CLOCK_TOLERANCE_US and (
        last is None or at_us <= last + CLOCK_TOLERANCE_US
    )


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
