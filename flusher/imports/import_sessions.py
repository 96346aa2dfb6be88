"""`python -m flusher import FILE.csv`: sessions of the earlier system, each once.

Good lines are stored by the flusher's own writer, a batch a transaction, bad ones are told by their
number. So a run that was interrupted, or whose bad lines were mended, is simply run again.
"""

import asyncio
import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from contract import settings
from contract.calendar import Month, month_at
from contract.errors import Misconfigured, Retry
from contract.record import SessionStarted, encode
from contract.settings import Environment
from flusher.imports.earlier_sessions import COLUMNS, SITE_COLUMN, Importable, host, session_of
from flusher.postgres.database import Database
from flusher.postgres.statements import statement
from flusher.postgres.write import SessionWriter
from flusher.rows.batch import Batch
from flusher.rows.entry import Entry
from runtime.logs import configure_logging
from runtime.retry import Backoff, retry

_BATCH: Final = 10_000
_PAUSES_SECONDS: Final = 4.0
_ERRORS_SHOWN: Final = 20
_EXAMPLE: Final = "python -m flusher import --site city.example.org sessions.csv"


@dataclass
class Imported:
    """What became of the lines: `errors` are the first of those that are wrong, with why."""

    new: int = 0
    known: int = 0
    wrong: int = 0
    months: set[Month] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)


async def import_sessions(environment: Environment, path: Path, site: str | None) -> int:
    """Imports a file, and says what became of its lines; 1 if some are wrong."""
    # Of what the flusher's parts do, only what is amiss is told here.
    level = environment.get("LOG_LEVEL") or "warning"
    configure_logging({**environment, "LOG_LEVEL": level}, "flusher")
    zone = settings.CALENDAR_TIMEZONE.read(environment)
    dsn = settings.DATABASE_URL.read(environment)
    default_site = _default_site(environment, site)
    console = Console(stderr=True)
    imported = Imported()
    async with Database(dsn) as database:
        async with database.connection() as connection:
            found = await connection.fetch(statement("months"))
            latest = month_at(await connection.fetchval(statement("server_clock")), zone)
        dropped = frozenset(
            Month(row["month"].year, row["month"].month) for row in found if row["is_dropped"]
        )
        rules = Importable(default_site, zone, latest, dropped)
        writer = SessionWriter(database, zone)
        try:
            with _Lines(path, rules, imported, console) as lines:
                for batch in lines.batches():
                    await _write(writer, batch, imported)
        except asyncio.CancelledError:  # Ctrl-C
            print(
                f"error: interrupted: {_summary(imported)}; run it again for the rest, "
                "each session is stored once",
                file=sys.stderr,
            )
            return 1
    print(_summary(imported))
    if imported.wrong:
        print("\n".join(imported.errors), file=sys.stderr)
        if imported.wrong > len(imported.errors):
            print(f"… and {imported.wrong - len(imported.errors):,} more", file=sys.stderr)
    return 1 if imported.wrong else 0


class _Lines:
    """The file's lines as batches, with a progress bar on a terminal."""

    def __init__(self, path: Path, rules: Importable, imported: Imported, console: Console) -> None:
        self._path = path
        self._rules = rules
        self._imported = imported
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f} %"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise Misconfigured("FILE.csv", f"{error.strerror}: {self._path}", _EXAMPLE) from None
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()
        self._file.close()

    def batches(self) -> Iterator[Batch]:
        task = self._progress.add_task(self._path.name, total=self._path.stat().st_size)
        batch = Batch()
        for number, session in enumerate(self._sessions(), 1):
            # By the way of a stream's entry, so that a row is made in one place.
            batch.add([Entry(0, b"", encode(session))], self._rules.latest)
            if number % _BATCH == 0:
                yield batch
                batch = Batch()
                self._progress.update(task, completed=self._file.tell())
        if batch.starts:
            yield batch
        self._progress.update(task, completed=self._path.stat().st_size)

    def _sessions(self) -> Iterator[SessionStarted]:
        # What is not UTF-8 is the fault of its line, and not the end of the import.
        text = TextIOWrapper(self._file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.DictReader(text)
        names = reader.fieldnames or ()
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            problem = f"its first line does not name {', '.join(missing)}"
            raise Misconfigured("FILE.csv", problem, ",".join(COLUMNS))
        if SITE_COLUMN not in names and self._rules.site is None:
            raise Misconfigured(
                "--site", "the file has no column `site`: say whose sessions these are", _EXAMPLE
            )
        while True:
            try:
                line = next(reader)
                yield session_of(line, self._rules)
            except StopIteration:
                return
            except (ValueError, csv.Error) as error:
                self._imported.wrong += 1
                if len(self._imported.errors) < _ERRORS_SHOWN:
                    self._imported.errors.append(f"line {reader.line_num}: {error}")


async def _write(writer: SessionWriter, batch: Batch, imported: Imported) -> None:
    written = await retry(
        partial(writer.write, batch), Retry, Backoff(1, 1), within=_PAUSES_SECONDS
    )
    imported.new += written.sessions
    imported.known += written.duplicate_sessions
    imported.months |= batch.months


def _default_site(environment: Environment, site: str | None) -> str | None:
    """`--site`, or the only one of `SITES`."""
    sites = settings.SITES.read(environment)
    if site is None and len(sites) == 1 and "*" not in sites[0]:
        site = sites[0]
    try:
        return None if site is None else host(site)
    except ValueError:
        raise Misconfigured("--site", f"{site!r} is not a host name", _EXAMPLE) from None


def _summary(imported: Imported) -> str:
    months = sorted(imported.months)
    span = f", {months[0]} to {months[-1]}" if months else ""
    return (
        f"{imported.new:,} sessions imported, {imported.known:,} were there already, "
        f"{imported.wrong:,} lines are wrong{span}"
    )
