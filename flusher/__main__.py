"""`python -m flusher`: the worker, and the commands of whoever looks after the database."""

import argparse
import asyncio
import os
import socket
import sys
import time
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial

import structlog

from contract import settings
from contract.calendar import Month
from contract.metrics import FlusherMetrics
from contract.settings import Environment
from flusher.commands import (
    REPORT_FORMATS,
    check_counts_kept,
    drop_dead_letters,
    migrate_database,
    replay_dead_letters,
    show_dead_letter,
    show_dead_letters,
    show_report,
    show_status,
)
from flusher.imports.import_sessions import Wanted, import_sessions
from flusher.imports.undo import undo_import
from flusher.measuring import Measuring
from flusher.postgres.database import Database
from flusher.postgres.match import REPEATED_WITHIN_US
from flusher.postgres.months import MonthKeeper
from flusher.postgres.promises import examine_postgres
from flusher.postgres.write import SessionWriter
from flusher.stream.dead_letters import DeadLetters
from flusher.stream.lag import oldest_entry_seconds
from flusher.stream.read import StreamReader
from flusher.worker import Worker
from runtime.admin import AdminListener
from runtime.clock import Clock, wall_clock
from runtime.command import add_version, run_command, run_process
from runtime.logs import log_start
from runtime.redis_promises import redis_examinations
from runtime.registry import make_registry
from runtime.server_promises import Examine, watch_promises
from runtime.server_watch import ServerWatch
from runtime.service_manager import ServiceManager
from runtime.shards import connect_shards
from runtime.stopping import Stopping

ADMIN_PORT = settings.admin_port(9101)
SETTINGS = (
    settings.REDIS_URL,
    settings.REDIS_CLUSTER,
    settings.DATABASE_URL,
    settings.ADMIN_HOST,
    ADMIN_PORT,
    settings.CALENDAR_TIMEZONE,
    settings.STREAM_SHARDS,
    settings.FLUSH_MAX_ROWS,
    settings.FLUSH_MAX_SECONDS,
    settings.FLUSH_CLAIM_SECONDS,
    settings.SESSIONS_KEPT_MONTHS,
    settings.ENDED_MONTHS_KEEP,
    settings.LOG_LEVEL,
    settings.LOG_FORMAT,
)
# Ready means that a flush, or a look that found nothing to flush, succeeded this recently.
READY_SECONDS = 30.0
# More statements than a turn of a worker has, each with the worker's patience.
STATEMENTS_A_TURN = 40
# The longest statement of those that count a month.
COUNTING_SECONDS = 600.0


log = structlog.get_logger()


async def work(environment: Environment, clock: Clock) -> int:
    """Runs a flusher until it is asked to stop; returns the exit code."""
    registry = make_registry()
    metrics = FlusherMetrics(registry)
    zone = settings.CALENDAR_TIMEZONE.read(environment)
    claim_seconds = settings.FLUSH_CLAIM_SECONDS.read(environment)
    # Unique among the living; who is gone is taken off the group by whoever stops next.
    consumer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    stopping = Stopping()
    stopping.install()
    # A flush ends, one way or the other, well before another flusher takes its entries over.
    patience_seconds = claim_seconds / 2
    dsn = settings.DATABASE_URL.read(environment)
    kept_months = settings.SESSIONS_KEPT_MONTHS.read(environment)
    ended_keep = settings.ENDED_MONTHS_KEEP.read(environment)
    max_rows = settings.FLUSH_MAX_ROWS.read(environment)
    max_seconds = settings.FLUSH_MAX_SECONDS.read(environment)

    def make_worker(reader: StreamReader, database: Database, helps: Worker | None) -> Worker:
        return Worker(
            reader,
            SessionWriter(database, zone),
            metrics,
            zone,
            max_rows,
            max_seconds,
            claim_seconds,
            helps,
        )

    async with (
        connect_shards(environment) as shards,
        Database(dsn, patience_seconds) as database,
        Database(dsn, patience_seconds) as other_database,
        Database(dsn, COUNTING_SECONDS) as counting_database,
        Database(dsn, patience_seconds) as watched_database,
        ServiceManager(environment) as service,
    ):
        log_start("flusher", SETTINGS, environment)
        reader = StreamReader(shards, consumer, claim_seconds)
        worker = make_worker(reader, database, None)
        # While a batch is matched and committed, the rows of another are copied.
        other_reader = StreamReader(shards, f"{consumer}-helper", claim_seconds)
        helper = make_worker(other_reader, other_database, worker)

        waiting_upgrades = SessionWriter(watched_database, zone).count_waiting

        async def look_at_postgres() -> None:
            metrics.upgrades_waiting.set(await waiting_upgrades())

        watches = {
            "redis": ServerWatch("Redis", Measuring(reader, metrics).measure),
            "postgres": ServerWatch("PostgreSQL", look_at_postgres),
        }

        def failed_checks() -> dict[str, str | None]:
            return {
                "flush": _recent(worker.last_success, "no flush has succeeded recently"),
                **{server: watch.wrong for server, watch in watches.items()},
                "draining": "asked to stop" if stopping.asked else None,
            }

        admin = AdminListener(
            settings.ADMIN_HOST.read(environment),
            ADMIN_PORT.read(environment),
            registry,
            failed_checks,
        )
        promises: list[Examine] = [
            *redis_examinations(shards, clock),
            partial(examine_postgres, dsn, clock, zone),
        ]

        async def oldest_entry() -> float:
            return await oldest_entry_seconds(reader.servers, reader.shards)

        watching = [
            asyncio.create_task(watch_promises(promises, stopping)),
            *(asyncio.create_task(watch.run(stopping)) for watch in watches.values()),
        ]
        dead_places = partial(DeadLetters(shards).places, zone, REPEATED_WITHIN_US)
        keeper = MonthKeeper(counting_database, oldest_entry, kept_months, ended_keep, dead_places)
        counting = asyncio.create_task(keeper.run(stopping, metrics))
        try:
            await admin.start()
            log.info("flushing", consumer=consumer)
            service.started()
            longest_turn_seconds = STATEMENTS_A_TURN * patience_seconds
            ended = await asyncio.gather(
                worker.run(stopping, service.watch(longest_turn_seconds)),
                helper.run(stopping, service.watch(longest_turn_seconds)),
            )
        finally:
            stopping.set()
            await asyncio.gather(*watching)
            counting.cancel()
            with suppress(asyncio.CancelledError):
                await counting
            await admin.close()
    if not all(ended):
        log.warning("stopped with entries in hand: another flusher takes them over")
        return 1
    log.info("stopped")
    return 0


def _recent(since: float | None, wrong: str) -> str | None:
    return wrong if since is None or time.monotonic() - since > READY_SECONDS else None


def _add_dead_letter_commands(dead: argparse.ArgumentParser) -> None:
    verbs = dead.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs.add_parser("list", help="one line each")
    show = verbs.add_parser("show", help="everything that is known of one")
    show.add_argument("id", metavar="ID", help="as `list` shows it")
    replay = verbs.add_parser(
        "replay", help="back into the streams, and through the same deduplication as any entry"
    )
    replay.add_argument("ids", metavar="ID", nargs="*", help="as `list` shows them; none: all")
    drop = verbs.add_parser("drop", help="delete for good")
    drop.add_argument("ids", metavar="ID", nargs="+", help="as `list` shows them")


def _add_report_command(report: argparse.ArgumentParser) -> None:
    report.add_argument("--site", metavar="S", help="one site's; without it all sites together")
    report.add_argument("--by", choices=["site"], help="a line for each site of each month")
    report.add_argument(
        "--months",
        metavar="N",
        type=_number_of_months,
        help="how many, the current one included (default: 12; by site 2)",
    )
    report.add_argument(
        "--format", choices=REPORT_FORMATS, default="table", help="default: %(default)s"
    )


def _add_check_command(check: argparse.ArgumentParser) -> None:
    check.add_argument("--month", metavar="M", type=_month, help="one month, such as 2026-11")
    check.add_argument(
        "--repair",
        action="store_true",
        help="correct the counts of each month that differs, from its sessions",
    )


def _month(text: str) -> Month:
    try:
        return Month.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a month, such as 2026-11") from None


def _number_of_months(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1200:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1200")
    return int(text)


def _add_import_command(imports: argparse.ArgumentParser) -> None:
    what = imports.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "file",
        metavar="FILE.csv",
        nargs="?",
        help="its first line names id, monthly_user_hash, highest_role, created_at and, if it has "
        "several sites, site; may be compressed (gzip, bzip2, xz), in UTF-8 or UTF-16; "
        "- is standard input",
    )
    what.add_argument(
        "--undo", metavar="NAME", help="delete all sessions that imports of this name stored"
    )
    imports.add_argument(
        "--site",
        metavar="S",
        help="the site of lines that name none; default: SITES, if that is a single site",
    )
    imports.add_argument(
        "--name",
        metavar="NAME",
        type=_name,
        help="a name for --undo; default: the file's name",
    )
    imports.add_argument(
        "--separator",
        metavar="C",
        type=_separator,
        help="the field separator: a character, or `tab`; default: detected in the first line",
    )
    imports.add_argument(
        "--dry-run", action="store_true", help="store nothing, only say what would be"
    )


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no name")
    return text


def _separator(text: str) -> str:
    if text in ("tab", "\\t"):
        return "\t"
    if len(text) != 1 or text.isalnum() or text in '"\r\n_' or not text.isascii():
        raise argparse.ArgumentTypeError(f"{text!r} is neither `tab` nor a character such as ;")
    return text


def _import_command(
    imports: argparse.ArgumentParser, arguments: argparse.Namespace
) -> Coroutine[object, object, int]:
    if arguments.undo is None:
        wanted = Wanted(
            arguments.file,
            arguments.site,
            arguments.name,
            arguments.separator,
            arguments.dry_run,
        )
        return import_sessions(os.environ, wanted)
    if arguments.site or arguments.name or arguments.separator:
        imports.error("--undo takes no other argument than --dry-run")
    return undo_import(os.environ, arguments.undo, dry_run=arguments.dry_run)


def _dead_letter_command(arguments: argparse.Namespace) -> Coroutine[object, object, int]:
    match arguments.verb:
        case "list":
            return show_dead_letters(os.environ)
        case "show":
            return show_dead_letter(os.environ, arguments.id)
        case "replay":
            return replay_dead_letters(os.environ, arguments.ids)
        case _:
            return drop_dead_letters(os.environ, arguments.ids)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m flusher",
        description="Copies sessions from Redis to PostgreSQL. Without a command: the worker. "
        "Every setting comes from the environment (see docs/settings.md).",
    )
    add_version(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser(
        "migrate", help="create or upgrade the database; safe to repeat and to race"
    )
    status = commands.add_parser("status", help="how far behind the flushers are")
    how = status.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="for scripts")
    how.add_argument("--watch", action="store_true", help="refresh every second, until Ctrl-C")
    _add_dead_letter_commands(
        commands.add_parser("dead", help="entries that could not become rows")
    )
    _add_report_command(
        commands.add_parser("report", help="the impact report, month by month; to standard output")
    )
    _add_check_command(
        commands.add_parser("check", help="compare the kept counts with the sessions")
    )
    imports = commands.add_parser("import", help="sessions of the earlier system; safe to repeat")
    _add_import_command(imports)
    arguments = parser.parse_args()
    if arguments.command is None:
        return run_process("flusher", work, os.environ, wall_clock)
    if arguments.command == "import":
        return run_command(_import_command(imports, arguments))
    return run_command(_command(arguments))


def _command(arguments: argparse.Namespace) -> Coroutine[object, object, int]:
    command: Coroutine[object, object, int]
    match arguments.command:
        case "migrate":
            command = migrate_database(os.environ)
        case "dead":
            command = _dead_letter_command(arguments)
        case "report":
            by_site = arguments.by == "site"
            months = arguments.months or (2 if by_site and arguments.format != "html" else 12)
            site, form = arguments.site, arguments.format
            command = show_report(os.environ, wall_clock, site, months, form, by_site=by_site)
        case "check":
            command = check_counts_kept(os.environ, arguments.month, repair=arguments.repair)
        case _:
            command = show_status(os.environ, json=arguments.json, watch=arguments.watch)
    return command


if __name__ == "__main__":
    sys.exit(main())
