"""The command line of `python -m flusher`.

Each command sets `run`, a function of the environment, the parsed arguments and a clock.
"""

import argparse
from collections.abc import Coroutine

from contract.calendar import Month
from contract.setting import Environment
from flusher.commands import (
    REPORT_FORMATS,
    check_counts_kept,
    manage_dead_letters,
    migrate_database,
    show_report,
    show_status,
)
from flusher.imports.import_sessions import ImportOptions, import_sessions
from flusher.imports.undo import undo_import
from runtime.clock import Clock
from runtime.command import add_version


def make_parser() -> argparse.ArgumentParser:
    """The parser for all commands of the flusher."""
    parser = argparse.ArgumentParser(
        prog="python -m flusher",
        description="Copies sessions from Redis to PostgreSQL. Without a command: the worker. "
        "Every setting comes from the environment (see docs/settings.md).",
    )
    add_version(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    migrate = commands.add_parser(
        "migrate", help="create or upgrade the database; safe to repeat and to race"
    )
    migrate.set_defaults(run=lambda environment, *_: migrate_database(environment))
    _add_status(commands.add_parser("status", help="how far behind the flushers are"))
    _add_dead(commands.add_parser("dead", help="entries that could not become rows"))
    _add_report(
        commands.add_parser("report", help="the impact report, month by month; to standard output")
    )
    _add_check(commands.add_parser("check", help="compare the kept counts with the sessions"))
    _add_import(
        commands.add_parser("import", help="sessions of the earlier system; safe to repeat")
    )
    return parser


def _add_status(status: argparse.ArgumentParser) -> None:
    how = status.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="for scripts")
    how.add_argument("--watch", action="store_true", help="refresh every second, until Ctrl-C")
    status.set_defaults(
        run=lambda environment, given, _: show_status(
            environment, json=given.json, watch=given.watch
        )
    )


def _add_dead(dead: argparse.ArgumentParser) -> None:
    verbs = dead.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs.add_parser("list", help="one line each").set_defaults(ids=[])
    show = verbs.add_parser("show", help="everything that is known about one")
    show.add_argument("ids", metavar="ID", nargs=1, help="as `list` shows it")
    replay = verbs.add_parser(
        "replay", help="back into the streams, and through the same deduplication as any entry"
    )
    replay.add_argument("ids", metavar="ID", nargs="*", help="as `list` shows them; none: all")
    drop = verbs.add_parser("drop", help="delete for good")
    drop.add_argument("ids", metavar="ID", nargs="+", help="as `list` shows them")
    dead.set_defaults(
        run=lambda environment, given, _: manage_dead_letters(environment, given.verb, given.ids)
    )


def _add_report(report: argparse.ArgumentParser) -> None:
    report.add_argument("--site", metavar="S", help="only this site; default: all sites together")
    report.add_argument("--by", choices=["site"], help="a line for each site and month")
    report.add_argument(
        "--months",
        metavar="N",
        type=_number_of_months,
        help="how many, the current one included (default: 12; by site 2)",
    )
    report.add_argument(
        "--format", choices=REPORT_FORMATS, default="table", help="default: %(default)s"
    )
    report.set_defaults(run=_run_report)


def _run_report(
    environment: Environment, given: argparse.Namespace, clock: Clock
) -> Coroutine[object, object, int]:
    by_site = given.by == "site"
    months = given.months or (2 if by_site and given.format != "html" else 12)
    return show_report(environment, clock, given.site, months, given.format, by_site=by_site)


def _add_check(check: argparse.ArgumentParser) -> None:
    check.add_argument("--month", metavar="M", type=_month, help="one month, such as 2026-11")
    check.add_argument(
        "--repair",
        action="store_true",
        help="correct the counts of each month that differs, from its sessions",
    )
    check.set_defaults(
        run=lambda environment, given, _: check_counts_kept(
            environment, given.month, repair=given.repair
        )
    )


def _add_import(imports: argparse.ArgumentParser) -> None:
    imports.set_defaults(run=_run_import, refuse=imports.error)
    what = imports.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "file",
        metavar="FILE.csv",
        nargs="?",
        help="the first line names id, monthly_user_hash, highest_role, created_at and, for "
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
        "--name", metavar="NAME", type=_name, help="a name for --undo; default: the file's name"
    )
    imports.add_argument(
        "--separator",
        metavar="C",
        type=_separator,
        help="the field separator: a character, or `tab`; default: detected in the first line",
    )
    imports.add_argument(
        "--dry-run", action="store_true", help="store nothing, only show what would be stored"
    )


def _run_import(
    environment: Environment, given: argparse.Namespace, _: Clock
) -> Coroutine[object, object, int]:
    if given.undo is None:
        return import_sessions(
            environment,
            ImportOptions(given.file, given.site, given.name, given.separator, given.dry_run),
        )
    if given.site or given.name or given.separator:
        given.refuse("--undo takes no other argument than --dry-run")
    return undo_import(environment, given.undo, dry_run=given.dry_run)


def _month(text: str) -> Month:
    try:
        return Month.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a month, such as 2026-11") from None


def _number_of_months(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1200:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1200")
    return int(text)


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not a name")
    return text


def _separator(text: str) -> str:
    if text in ("tab", "\\t"):
        return "\t"
    if len(text) != 1 or text.isalnum() or text in '"\r\n_' or not text.isascii():
        raise argparse.ArgumentTypeError(f"{text!r} is neither `tab` nor a character such as ;")
    return text
