"""The commands `migrate`, `status`, `report`, `check` and `dead`. Each returns its exit code."""

import sys
from collections.abc import Sequence
from shutil import get_terminal_size

from contract import settings
from contract.calendar import Month
from contract.setting import Environment
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database
from flusher.postgres.migrate import migrate
from flusher.reports.formats import REPORT_WIDTH, as_csv
from flusher.reports.formats import as_json as as_report_json
from flusher.reports.formats import as_table as as_report_table
from flusher.reports.html import as_html
from flusher.reports.read import read_report
from flusher.status import as_json, read_status
from flusher.status_view import print_status, watch_status
from flusher.stream.dead_letters import DeadLetters, as_table, as_text
from runtime.clock import Clock
from runtime.shards import connect_shards

REPORT_FORMATS = ("table", "csv", "json", "html")


async def migrate_database(environment: Environment) -> int:
    """`migrate`: creates or upgrades the database."""
    zone = settings.CALENDAR_TIMEZONE.read(environment)
    async with (
        Database(settings.DATABASE_URL.read(environment)) as database,
        database.connection() as connection,
    ):
        applied = await migrate(connection, zone, _note)
    print("\n".join(f"applied {name}" for name in applied) or "the database is up to date")
    return 0


def _note(line: str) -> None:
    print(f"note: {line}", file=sys.stderr)


async def show_status(environment: Environment, *, json: bool, watch: bool) -> int:
    """`status`: 1 if a server did not answer; its values are then shown as unknown."""
    async with (
        connect_shards(environment) as shards,
        Database(settings.DATABASE_URL.read(environment)) as database,
    ):
        if watch:
            await watch_status(shards, database)
            return 0
        status = await read_status(shards, database)
    if json:
        print(as_json(status))
    else:
        print_status(status)
    return 1 if status.away or status.shards_away else 0


async def show_report(
    environment: Environment,
    clock: Clock,
    site: str | None,
    months: int,
    form: str,
    *,
    by_site: bool,
) -> int:
    """`report` of one site or all, for the last `months`."""
    async with Database(settings.DATABASE_URL.read(environment)) as database:
        report = await read_report(database, clock(), site, months)
    match form:
        case "csv":
            text = as_csv(report, by_site=by_site)
            for note in report.remarks:  # they belong to no line of the CSV
                _note(note)
        case "json":
            text = as_report_json(report, by_site=by_site)
        case "html":
            text = as_html(report)
        case _:
            width = get_terminal_size((REPORT_WIDTH, 0)).columns
            text = as_report_table(report, by_site=by_site, width=width)
    print(text)
    return 0


async def check_counts_kept(environment: Environment, month: Month | None, *, repair: bool) -> int:
    """`check`: 1 if counts are wrong and were not repaired."""
    async with Database(settings.DATABASE_URL.read(environment)) as database:
        differences = await check_counts(database, month, repair=repair)
        left = await check_counts(database, month) if differences and repair else differences
    print("\n".join(differences) or "the kept counts agree with the sessions")
    if differences and repair:
        print("\n".join(left) or "repaired: the kept counts agree with the sessions now")
    return 1 if left else 0


async def manage_dead_letters(environment: Environment, verb: str, names: Sequence[str]) -> int:
    """`dead list`, `show` of one, `replay` of the named ones or of all, and `drop`."""
    async with connect_shards(environment) as shards:
        dead_letters = DeadLetters(shards)
        match verb:
            case "list":
                print(as_table([letter async for letter in dead_letters.all()]))
            case "show":
                print(as_text(await dead_letters.get(*names)))
            case "replay":
                # The list is read first: an entry that fails again becomes a new dead letter.
                for name in names or [letter.name async for letter in dead_letters.all()]:
                    await dead_letters.replay(name)
                    print(f"replayed {name}")
            case _:
                for name in names:
                    await dead_letters.drop(name)
                    print(f"dropped {name}")
    return 0
