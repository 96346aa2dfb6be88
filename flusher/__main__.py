"""`python -m flusher`: the worker, and the commands for the database's operators."""

import argparse
import os
import sys
from collections.abc import Coroutine

from flusher.arguments import make_parser
from flusher.commands import (
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
from flusher.process import work
from runtime.clock import wall_clock
from runtime.command import run_command, run_process


def main() -> int:
    arguments = make_parser().parse_args()
    if arguments.command is None:
        return run_process("flusher", work, os.environ, wall_clock)
    if arguments.command == "import":
        return run_command(_import_command(arguments))
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


def _import_command(arguments: argparse.Namespace) -> Coroutine[object, object, int]:
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
        arguments.refuse("--undo takes no other argument than --dry-run")
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


if __name__ == "__main__":
    sys.exit(main())
