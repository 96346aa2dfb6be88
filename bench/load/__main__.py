"""`python -m bench.load`: sends sessions over HTTP, then checks that each became its row."""

import argparse
import asyncio
import json
import math
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from bench.load.client import Address, Client, Unreachable
from bench.load.people import FIRST, SIGNED_IN, People, role_of
from bench.load.reconcile import settle
from bench.load.request_builder import RequestBuilder, TokenSigner
from bench.load.sender import Sender
from bench.load.sent_log import SentLog
from bench.load.settings_check import check_settings
from bench.tables import Document, terminal_table
from contract import settings
from contract.errors import Misconfigured
from contract.setting import Environment
from runtime.command import run_command

_SHOW_SECONDS = 0.2
_DESCRIPTION = f"""\
Sends sessions over HTTP from many addresses (X-Forwarded-For: the collector must have this
machine's address in TRUSTED_PROXIES) and real browsers' User-Agents, waits for the flushers, and
compares what was answered with PostgreSQL, row by row. Some {SIGNED_IN:g} % of the people are
signed in from the start; some sessions are sent twice, some with `Bearer undefined` or an expired
token."""
_EPILOG = """\
From the environment: DATABASE_URL (postgresql://…), JWT_KEY (the collector's shared secret, which
signs the users' tokens), and as the collector has them JWT_ALGORITHMS, JWT_AUDIENCE,
JWT_USER_CLAIM, JWT_ROLE_CLAIM, CALENDAR_TIMEZONE. Exit code: 0 exact, 1 differences, 2 wrong usage
or settings. Ctrl-C stops the sending and compares what was sent; a second Ctrl-C ends the
command."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The options, parsed."""

    sessions: int
    upgraded: float
    crawlers: float
    rate: float
    connections: int
    url: str
    sites: tuple[str, ...]
    seed: int
    settle_seconds: float
    json: Path | None


async def load(arguments: Arguments, environment: Environment) -> int:
    """Sends, compares, prints; the exit code.

    Raises:
        Misconfigured: a setting or option is missing or wrong, or differs from the collector's.
        Retry: PostgreSQL is away.
    """
    dsn = settings.DATABASE_URL.read(environment)
    zone = settings.CALENDAR_TIMEZONE.read(environment)
    signer = TokenSigner(environment)
    address = Address.parse(arguments.url)
    sent_log = SentLog(arguments.sites, role_of)
    people = People(
        arguments.sessions,
        len(arguments.sites),
        arguments.upgraded,
        arguments.crawlers,
        arguments.seed,
        sent_log.tag,
    )
    builder = RequestBuilder(people, signer, arguments.sites, str(address))
    console = Console(stderr=True)
    async with Client(address, arguments.connections) as client:
        sender = Sender(client, people.visits(), builder, sent_log, arguments.rate)
        _stop_at_ctrl_c(sender)
        try:
            await sender.first(FIRST)
        except Unreachable as error:
            raise Misconfigured("--url", str(error), "--url http://127.0.0.1:8000") from None
        with console.status("waiting for the rows of the first sessions …"):
            await check_settings(sent_log, sender.tally, dsn, zone, arguments.settle_seconds)
        complete = await _send(sender, arguments.sessions, console)
    with console.status("waiting for the flushers …"):
        differences = await settle(sent_log, dsn, zone, arguments.settle_seconds)
    document: Document = {
        "requests": {**sender.tally.counts(), **sender.tally.times()},
        "rows": {**differences.counts(), "exact": differences.exact},
    }
    Console().print(terminal_table("What was answered, and what is in PostgreSQL", document))
    for line in differences.lines():
        console.print(line, highlight=False, markup=False)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0 if differences.exact and complete else 1


def _stop_at_ctrl_c(sender: Sender) -> None:
    """The first Ctrl-C ends the sending; the next one ends the command, as without this."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        sender.stop()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, stop)


async def _send(sender: Sender, sessions: int, console: Console) -> bool:
    """Sends with a progress bar; whether the collector stayed reachable."""
    with Progress(console=console) as progress:
        bar = progress.add_task("sending", total=sessions)
        sending = asyncio.create_task(sender.run())
        while not sending.done():
            await asyncio.wait([sending], timeout=_SHOW_SECONDS)
            progress.update(bar, completed=sender.tally.visits)
    try:
        await sending
    except Unreachable as error:
        console.print(f"error: {error}; what was sent is compared")
        return False
    return True


def _sites(text: str) -> tuple[str, ...]:
    sites = tuple(site.strip().lower() for site in text.split(",") if site.strip())
    if not sites:
        raise argparse.ArgumentTypeError("names no site")
    return sites


def parse_arguments(words: list[str]) -> Arguments:
    """The options; exits with 2 where they are wrong, and with 0 after `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.load", description=_DESCRIPTION, epilog=_EPILOG
    )
    sites = ("a.example.org", "b.example.org", "c.example.org")
    # The name, its default, the least and the greatest value, and what it means.
    numbers: tuple[tuple[str, int | float, float, float, str], ...] = (
        ("sessions", 10_000, FIRST, math.inf, "how many are sent"),
        ("upgraded", 10.0, 0, 100 - SIGNED_IN, "%% of people's sessions that sign in later"),
        ("crawlers", 5.0, 0, 100, "%% of all sessions"),
        ("rate", math.inf, 0.1, math.inf, "sessions begun a second, at most"),
        ("connections", 64, 1, math.inf, "kept alive, one request at a time on each"),
        ("seed", 1, 0, math.inf, "the same people for the same seed"),
        ("settle-seconds", 60.0, 1, 86_400, "how long to wait for the flushers without progress"),
    )
    for name, default, _, _, meaning in numbers:
        text = f"{meaning}; default: %(default)s"
        kind = type(default)
        parser.add_argument(f"--{name}", type=kind, default=default, metavar="N", help=text)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="default: %(default)s")
    parser.add_argument("--sites", type=_sites, default=sites, metavar="HOST,…", help="in SITES")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    arguments = Arguments(**vars(parser.parse_args(words)))
    for name, _, least, most, _ in numbers:
        if not least <= getattr(arguments, name.replace("-", "_")) <= most:
            parser.error(f"--{name} must be from {least:g} to {most:g}")
    return arguments


def main() -> int:
    return run_command(load(parse_arguments(sys.argv[1:]), os.environ))


if __name__ == "__main__":
    sys.exit(main())
