"""`python -m flusher import FILE.csv`: imports the earlier system's sessions, each once.

Each line is imported, known before, or reported as wrong with its number. So an import that was
interrupted, or whose wrong lines were corrected, is simply run again.
"""

import asyncio
import concurrent.futures
import secrets
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Final, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from contract import settings
from contract.calendar import Month, month_at
from contract.errors import DeadLetter, Misconfigured, Retry
from contract.setting import Environment
from contract.site import site_name
from flusher.imports.csv_line import COLUMNS, SITE_COLUMN, Layout, read_layout
from flusher.imports.earlier_sessions import RUN_BYTES, EarlierSessions, Importable
from flusher.imports.file_lines import STANDARD_INPUT, FileLines, Unreadable
from flusher.imports.line_batches import LineBatch, WrongLines, line_batches
from flusher.imports.store import DryRun, ImportWriter, Outcome, Run
from flusher.postgres.database import Database
from flusher.postgres.statements import statement
from runtime.logs import configure_logging

T = TypeVar("T")

_EXAMPLE: Final = "python -m flusher import --site city.example.org sessions.csv"
_NAME_OF_STANDARD_INPUT: Final = "stdin"
_SWITCH_SECONDS: Final = 0.0005
_REPEAT: Final = "its id is that of an earlier line"
_RUN_AGAIN: Final = "run it again for the rest, each session is stored once"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """The command's options. `file` may be `-`; None: the default."""

    file: str
    site: str | None
    name: str | None
    separator: str | None
    dry_run: bool


@dataclass(slots=True)
class _Imported:
    """What happened to the lines so far."""

    new: int = 0
    signed_in: int = 0
    known: int = 0
    wrong: int = 0
    months: set[Month] = field(default_factory=set)

    def add(self, batch: LineBatch, outcome: Outcome) -> None:
        self.new += len(outcome.new)
        self.known += outcome.known
        self.wrong += len(batch.wrong) + len(outcome.repeats)
        for kind, number in Counter(batch.kinds[place] for place in outcome.new).items():
            self.signed_in += number * kind.signed_in
            self.months.add(kind.months[0])

    def __str__(self) -> str:
        lines = self.new + self.known + self.wrong
        text = (
            f"{lines:,} line{'' if lines == 1 else 's'}: {self.new:,} imported, "
            f"{self.known:,} known before, {self.wrong:,} wrong"
        )
        if not self.new:
            return text
        return f"{text}; {self.signed_in:,} signed in, {min(self.months)} to {max(self.months)}"


async def import_sessions(environment: Environment, options: ImportOptions) -> int:
    """Imports a file, and prints what happened to its lines; 1 if some are wrong."""
    # The flusher's parts log only problems here.
    level = environment.get("LOG_LEVEL") or "warning"
    configure_logging({**environment, "LOG_LEVEL": level}, "flusher")
    dsn = settings.DATABASE_URL.read(environment)
    site = _default_site(environment, options.site)
    run = Run(secrets.token_bytes(RUN_BYTES), options.name or _name_of(options.file))
    file = _open(options.file)
    lines = file.lines()
    layout = await _in_thread(lambda: _read_layout(lines, options.separator))
    if not layout.has_sites and site is None:
        raise Misconfigured(
            "--site", "the file has no column `site`: say whose sessions these are", _EXAMPLE
        )
    # Otherwise PostgreSQL's answers wait 5 ms for the thread that reads, ten times as long.
    sys.setswitchinterval(_SWITCH_SECONDS)
    imported = _Imported()
    try:
        async with Database(dsn) as database:
            rules = await _rules(environment, database, site)
            batches = line_batches(lines, layout, EarlierSessions(rules, run.tag))
            writer = ImportWriter(database, rules.zone, run)
            destination = DryRun(database, run) if options.dry_run else writer
            with _progress(options.file, file) as show:
                await _import_lines(batches, destination, imported, show)
    except Retry as error:
        raise Retry(error.reason, f"{error}; {imported}; {_RUN_AGAIN}") from None
    except DeadLetter as error:
        raise DeadLetter(error.reason, f"after {imported}: {error}") from None
    except asyncio.CancelledError:  # Ctrl-C
        print(f"error: interrupted: {imported}; {_RUN_AGAIN}", file=sys.stderr)
        return 1
    print(_summary(imported, run.name, dry_run=options.dry_run))
    return 1 if imported.wrong else 0


async def _import_lines(
    batches: Iterator[LineBatch],
    destination: DryRun | ImportWriter,
    imported: _Imported,
    show: Callable[[_Imported], None],
) -> None:
    wrong = WrongLines(lambda line: print(line, file=sys.stderr))
    reading = _in_thread(lambda: next(batches, None))
    try:
        while (batch := await reading) is not None:
            # The next batch is read while PostgreSQL writes this one.
            reading = _in_thread(lambda: next(batches, None))
            outcome = await destination.write(batch)
            imported.add(batch, outcome)
            repeats = [(batch.numbers[place], _REPEAT) for place in outcome.repeats]
            wrong.add(sorted(batch.wrong + repeats), batch.last)
            show(imported)
    finally:
        reading.cancel()
        wrong.end()


def _open(path: str) -> FileLines:
    try:
        return FileLines(path)
    except OSError as error:
        raise Misconfigured("FILE.csv", f"{error.strerror}: {path}", _EXAMPLE) from None


def _read_layout(lines: Iterator[str], separator: str | None) -> Layout:
    try:
        return read_layout(next(lines, ""), separator)
    except Unreadable as error:
        raise Misconfigured("FILE.csv", str(error), _EXAMPLE) from None
    except ValueError as error:
        columns = ",".join((*COLUMNS, SITE_COLUMN))
        raise Misconfigured("FILE.csv", str(error), columns) from None


async def _rules(environment: Environment, database: Database, site: str | None) -> Importable:
    zone = settings.CALENDAR_TIMEZONE.read(environment)
    roles = settings.JWT_ROLE_RANK.read(environment)
    async with database.connection() as connection:
        found = await connection.fetch(statement("months"))
        latest = month_at(await connection.fetchval(statement("server_clock")), zone)
    dropped = {Month(row["month"].year, row["month"].month) for row in found if row["is_dropped"]}
    return Importable(site, zone, latest, frozenset(dropped), frozenset(roles))


def _default_site(environment: Environment, site: str | None) -> str | None:
    """`--site`, or the only one of `SITES`."""
    sites = settings.SITES.read(environment)
    if site is None and len(sites) == 1 and "*" not in sites[0]:
        site = sites[0]
    if site is None:
        return None
    name = site_name(site)
    if name is None:
        raise Misconfigured("--site", f"{site!r} is not a host name", _EXAMPLE)
    return name


def _name_of(file: str) -> str:
    if file == STANDARD_INPUT:
        return _NAME_OF_STANDARD_INPUT
    return Path(file).name.encode(errors="replace").decode()  # a file's name may have any bytes


def _in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Runs it in a daemon thread: it may wait for standard input, also when the program ends."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised where the future is awaited
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return asyncio.wrap_future(future)


@contextmanager
def _progress(name: str, file: FileLines) -> Iterator[Callable[[_Imported], None]]:
    """Shows the progress on a terminal; of a pipe the size is unknown."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=False),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(name, total=file.size)

        def show(imported: _Imported) -> None:
            bar.update(task, completed=file.read_bytes, description=str(imported))

        yield show


def _summary(imported: _Imported, name: str, *, dry_run: bool) -> str:
    if dry_run:
        return f"nothing was stored, this would be: {imported}"
    undo = f"python -m flusher import --undo {shlex.quote(name)}"
    return f"{imported}\nto take it back: {undo}" if imported.new else str(imported)
