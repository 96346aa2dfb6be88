"""`python -m bench.load`: sends sessions over HTTP, then checks that each became its row."""

import argparse
import asyncio
import json
import math
import os
import signal
import sys
from datetime import tzinfo
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress

from bench.load.client import Unreachable, connect
from bench.load.people import FIRST, SIGNED_IN, Plan
from bench.load.reconcile import SHARED_HASH, WRONG_ROLE, settle
from bench.load.request_builder import TokenSigner
from bench.load.sender import Sender
from bench.tables import Document, document_tables
from contract import settings
from contract.errors import Misconfigured, Retry
from contract.setting import Environment
from runtime.command import run_command

_URL = "http://127.0.0.1:8000"
_SHOW_SECONDS = 0.2
_DESCRIPTION = f"""\
Sends sessions over HTTP from many addresses (X-Forwarded-For: the collector must have this
machine's address in TRUSTED_PROXIES) and real browsers' User-Agents, waits for the flushers, and
compares what was answered with PostgreSQL, row by row. Of the people's sessions {SIGNED_IN:g} % are
signed in from the start; some are sent twice, some with `Bearer undefined` or an expired token."""
_EPILOG = """\
From the environment: DATABASE_URL (postgresql://…), JWT_KEY (the collector's shared secret, which
signs the users' tokens), and as the collector has them JWT_ALGORITHMS, JWT_AUDIENCE,
JWT_USER_CLAIM, JWT_ROLE_CLAIM, CALENDAR_TIMEZONE. Exit code: 0 exact, 1 differences, 2 wrong usage
or settings. Ctrl-C stops the sending and compares what was sent; a second Ctrl-C ends the
command."""


async def load(arguments: argparse.Namespace, environment: Environment) -> int:
    """Sends, compares, prints; the exit code.

    Raises:
        Misconfigured: a setting or option is missing or wrong, or differs from the collector's.
        Retry: PostgreSQL is away.
    """
    dsn = settings.DATABASE_URL.read(environment)
    zone = settings.CALENDAR_TIMEZONE.read(environment)
    signer = TokenSigner(environment)
    patience = arguments.settle_seconds
    plan = Plan(
        arguments.sites, arguments.sessions, arguments.upgraded, arguments.crawlers, arguments.seed
    )
    console = Console(stderr=True)
    with connect(arguments.url, arguments.connections) as connections:
        sender = Sender(connections, plan, signer, arguments.rate)
        _stop_at_ctrl_c(sender)
        with console.status("waiting for the rows of the first sessions …"):
            await _check_settings(sender, dsn, zone, patience)
        complete = await _send(sender, arguments.sessions, console)
    with console.status("waiting for the flushers …"):
        differences = await settle(sender.sent_log, dsn, zone, patience)
    document: Document = {
        "requests": {**sender.tally.counts(), **sender.tally.times()},
        "rows": {**differences.counts(), "exact": differences.exact},
    }
    Console().print(Markdown("\n".join(document_tables(document))))
    for line in differences.lines():
        console.print(line, highlight=False, markup=False)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0 if differences.exact and complete else 1


async def _check_settings(sender: Sender, dsn: str, zone: tzinfo, patience_seconds: float) -> None:
    """Sends the first visits (`People.visits`), waits for their rows, and checks these.

    Raises:
        Misconfigured: there is no collector, or it does not trust the load's X-Forwarded-For, does
            not count the site, or does not accept the tokens.
        Retry: PostgreSQL is away, or the rows do not come.
    """
    try:
        await sender.first(FIRST)
    except Unreachable as error:
        raise Misconfigured("--url", str(error), f"--url {_URL}") from None
    sent_log, statuses = sender.sent_log, sender.tally.statuses
    if statuses[403]:
        raise Misconfigured(
            "SITES", "the collector does not count the first of --sites", "SITES=*.example.org"
        )
    if statuses[201] != len(sent_log.sessions):
        found = ", ".join(map(str, statuses)) or "nothing"
        problem = f"the server there answers a session with {found}"
        raise Misconfigured("--url", problem, f"--url {_URL}")
    differences = await settle(sent_log, dsn, zone, patience_seconds, aftermath_seconds=0)
    if differences.lost:
        raise Retry(
            "no_rows",
            f"the first sessions have no rows after {patience_seconds:g} s: is a flusher "
            "running, and is DATABASE_URL its database?",
        )
    if differences.reasons[WRONG_ROLE]:
        raise Misconfigured(
            "JWT_KEY",
            "the collector takes a signed-in user for a visitor: its key, JWT_ALGORITHMS, "
            "JWT_AUDIENCE or JWT_USER_CLAIM differs",
            "JWT_KEY=the-secret-that-the-collector-has",
        )
    if differences.reasons[SHARED_HASH]:
        raise Misconfigured(
            "TRUSTED_PROXIES",
            "the collector does not trust the load's X-Forwarded-For: two visitors with different "
            "addresses got the same hash. It must name the address that the load comes from",
            "TRUSTED_PROXIES=127.0.0.1",
        )


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


def _stop_at_ctrl_c(sender: Sender) -> None:
    """The first Ctrl-C ends the sending; the next one ends the command, as without this."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        sender.stop()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, stop)


def _url(text: str) -> str:
    parts = urlsplit(text)
    is_address = parts.scheme == "http" and parts.hostname and parts.port != 0
    if not is_address or parts.path.strip("/") or parts.query:
        raise argparse.ArgumentTypeError(f"{text!r} is not http://host:port")
    return text


def _sites(text: str) -> tuple[str, ...]:
    sites = tuple(site.strip().lower() for site in text.split(",") if site.strip())
    if not sites:
        raise argparse.ArgumentTypeError("names no site")
    return sites


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.load", description=_DESCRIPTION, epilog=_EPILOG
    )
    sites = ("a.example.org", "b.example.org", "c.example.org")
    add = parser.add_argument
    add("--sessions", type=int, default=10_000, metavar="N", help="default: %(default)s")
    for share, default, of in (("--upgraded", 10.0, "the people's"), ("--crawlers", 5.0, "all")):
        meaning = f"of {of} sessions; default: %(default)g"
        add(share, type=float, default=default, metavar="PERCENT", help=meaning)
    add("--seed", type=int, default=1, metavar="S", help="the same people; default: %(default)s")
    add("--connections", type=int, default=64, metavar="N", help="default: %(default)s")
    add("--rate", type=float, default=math.inf, metavar="R", help="sessions a second, at most")
    add(
        "--settle-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="how long to wait for the flushers without progress; default: %(default)s",
    )
    add("--url", type=_url, default=_URL, help="the collector; default: %(default)s")
    add("--sites", type=_sites, default=sites, metavar="HOST,…", help="sites that are in SITES")
    add("--json", type=Path, metavar="FILE", help="write the result there, too")
    arguments = parser.parse_args()
    most_upgraded = 100 - SIGNED_IN
    if arguments.sessions < FIRST or arguments.connections < 1:
        parser.error(f"--sessions must be at least {FIRST}, --connections at least 1")
    if not 0 <= arguments.upgraded <= most_upgraded or not 0 <= arguments.crawlers <= 100:
        parser.error(f"--upgraded must be from 0 to {most_upgraded:g}, --crawlers from 0 to 100")
    if not arguments.rate > 0 or not arguments.settle_seconds > 0:
        parser.error("--rate and --settle-seconds must be above 0")
    return run_command(load(arguments, os.environ))


if __name__ == "__main__":
    sys.exit(main())
