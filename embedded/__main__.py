"""The command line: `python -m embedded run | token | env | psql`."""

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path

from contract.errors import Misconfigured
from embedded.errors import CannotRun, ServerDidNotStart

_PSQL = "psql"


def build_parser() -> argparse.ArgumentParser:
    """The options of every command."""
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--data",
        type=Path,
        default=Path(".data"),
        metavar="DIR",
        help="the folder with all data (default: %(default)s)",
    )
    parser = argparse.ArgumentParser(
        prog="python -m embedded",
        description="Runs the whole system on this machine, with a Valkey and a PostgreSQL of its "
        "own.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = partial(commands.add_parser, parents=[data], allow_abbrev=False)

    add(
        "run",
        help="start everything and stop it on Ctrl-C",
        description="Starts the servers, migrates, runs the Procfile. REDIS_URL and DATABASE_URL, "
        "if set, name servers to use in place of our own.",
    )
    token = add(
        "token",
        help="print a token of a demo user",
        description="Prints a JWT that the running system accepts for an hour.",
    )
    token.add_argument("--user", default="demo-user", metavar="ID", help="default: %(default)s")
    token.add_argument("--role", help="the user's highest role (default: none is named)")
    add(
        "env",
        help="print the running system's settings for a shell",
        description='Prints export lines, for: eval "$(python -m embedded env)"',
    )
    add(
        _PSQL,
        usage="python -m embedded psql [--data DIR] [PSQL ARGUMENT ...]",
        help="open psql on the running system's database",
        description="Passes all other arguments to the embedded psql.",
    )
    return parser


def main() -> int:
    parser = build_parser()
    options, rest = parser.parse_known_args()
    if rest and options.command != _PSQL:
        parser.error(f"unrecognized arguments: {shlex.join(rest)}")
    try:
        _execute(options, rest)
    except Misconfigured as error:
        print(error, file=sys.stderr)
        return 2
    except (CannotRun, ServerDidNotStart) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass  # Ctrl-C before the processes were started
    return 0


def _execute(options: argparse.Namespace, rest: list[str]) -> None:
    # Imported here, because it takes half a second, and `main` handles a Ctrl-C meanwhile.
    from embedded.commands import become_psql, print_environment, print_token  # noqa: PLC0415 - above
    from embedded.data_folder import DataFolder  # noqa: PLC0415 - above
    from embedded.run import run  # noqa: PLC0415 - above

    data = DataFolder(options.data)
    match options.command:
        case "run":
            run(data)
        case "token":
            print_token(data, options.user, options.role)
        case "env":
            print_environment(data)
        case _:
            become_psql(data, rest)


if __name__ == "__main__":
    sys.exit(main())
