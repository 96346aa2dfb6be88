"""`python -m bench.load`: sends sessions over HTTP, then looks whether each became its row."""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.load.client import Address, Client, Unreachable
from bench.load.people import FIRST, SIGNED_IN, People, role_of
from bench.load.reconcile import Differences, settle
from bench.load.request_builder import RequestBuilder, TokenSigner
from bench.load.sender import Sender, Tally
from bench.load.sent_log import SentLog
from bench.load.settings_check import check_settings
from contract import settings
from contract.errors import Misconfigured
from contract.setting import Environment
from runtime.command import run_command

_SHOW_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Arguments:
    """The options, parsed."""

    sessions: int
    upgraded: float
    crawlers: float
    rate: float | None
    connections: int
    url: str
    sites: tuple[str, ...]
    seed: int
    settle_seconds: float
    json: Path | None


class Interrupts:
    """Ctrl-C: the first ends the sending, the second the waiting for the flushers."""

    def __init__(self) -> None:
        self.sending = asyncio.Event()
        self.waiting = asyncio.Event()
        self._sender: Sender | None = None

    def install(self, sender: Sender) -> None:
        """Listens on the running loop."""
        self._sender = sender
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupted)

    def _interrupted(self) -> None:
        if self.sending.is_set():
            self.waiting.set()
        self.sending.set()
        if self._sender is not None:
            self._sender.stop()


async def load(arguments: Arguments, environment: Environment) -> int:
    """Sends, reconciles, prints; the exit code.

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
        interrupts = Interrupts()
        interrupts.install(sender)
        try:
            await sender.first(FIRST)
        except Unreachable as error:
            raise Misconfigured("--url", str(error), "--url http://127.0.0.1:8000") from None
        with console.status("the first sessions are on their way to their rows …"):
            await check_settings(
                sent_log, sender.tally, dsn, zone, arguments.settle_seconds, interrupts.sending
            )
        with _progress(console) as bar:
            complete = await _send(sender, arguments.sessions, bar, console)
    expected, _ = sent_log.expected()
    with console.status("waiting for the flushers …") as status:

        def show(rows: int, upgraded: int) -> None:
            status.update(
                f"waiting for the flushers: {rows:,} of {expected:,} rows, {upgraded:,} upgraded"
            )

        differences = await settle(
            sent_log,
            dsn,
            zone,
            arguments.settle_seconds,
            interrupted=interrupts.waiting,
            progress=show,
        )
    Console().print(_table(sender.tally, differences))
    _explain(differences, console)
    if arguments.json is not None:
        document = json.dumps(_as_json(arguments, sender.tally, differences), indent=2)
        arguments.json.write_text(document + "\n")
    return 0 if differences.exact and complete else 1


async def _send(sender: Sender, sessions: int, bar: Progress, console: Console) -> bool:
    """Drives with a progress bar; whether the collector stayed reachable."""
    task = bar.add_task("sending", total=sessions, rate="", statuses="")

    def show() -> None:
        tally = sender.tally
        rate = f"{tally.visits / bar_seconds:,.0f}/s" if (bar_seconds := _elapsed(bar)) else ""
        bar.update(task, completed=tally.visits, rate=rate, statuses=_statuses(tally))

    async def keep_showing() -> None:
        while True:
            show()
            await asyncio.sleep(_SHOW_SECONDS)

    showing = asyncio.create_task(keep_showing())
    try:
        await sender.run()
    except Unreachable as error:
        console.print(f"error: {error}; what was sent is reconciled")
        return False
    finally:
        showing.cancel()
        show()
    return True


def _elapsed(bar: Progress) -> float:
    return bar.tasks[0].elapsed or 0.0


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(bar_width=10),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[statuses]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
    )


def _statuses(tally: Tally) -> str:
    parts = [f"{status}: {count:,}" for status, count in sorted(tally.statuses.items())]
    if tally.no_answer:
        parts.append(f"no answer: {tally.no_answer:,}")
    return "  ".join(parts)


def _table(tally: Tally, differences: Differences) -> Table:
    table = Table(title="What was told, and what is in PostgreSQL", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = [
        ("requests sent", tally.sent),
        ("201 (session)", tally.statuses[201]),
        ("202 (upgrade)", tally.statuses[202]),
        ("204 (crawler)", tally.statuses[204]),
        ("other", _other(tally)),
        ("no answer", tally.no_answer),
    ]
    stored = [
        ("rows expected", differences.expected),
        ("rows found", differences.found),
        ("  of them unanswered", differences.unanswered_found),
    ]
    differing = [
        ("lost", differences.lost),
        ("twice", differences.twice),
        ("invented", differences.invented),
        ("wrong", differences.wrong),
        ("wrong answers", differences.misjudged),
    ]
    for name, count in rows:
        table.add_row(name, f"{count:,}")
    table.add_section()
    for name, count in stored:
        table.add_row(name, f"{count:,}")
    table.add_section()
    for name, count in differing:
        table.add_row(name, f"{count:,}", style="bold red" if count else "")
    table.add_section()
    table.add_row("requests/s", f"{tally.per_second:,.0f}")
    table.add_row("latency p50", f"{tally.percentile(50) * 1000:.1f} ms")
    table.add_row("latency p99", f"{tally.percentile(99) * 1000:.1f} ms")
    return table


def _explain(differences: Differences, console: Console) -> None:
    for reason, count in differences.reasons.most_common():
        console.print(f"{count:,} x {reason}", highlight=False)
    for example in differences.examples:
        console.print(f"  {example}", highlight=False, markup=False)


def _as_json(
    arguments: Arguments, tally: Tally, differences: Differences
) -> dict[str, dict[str, Any]]:
    return {
        "options": {
            "sessions": arguments.sessions,
            "upgraded": arguments.upgraded,
            "crawlers": arguments.crawlers,
            "rate": arguments.rate,
            "connections": arguments.connections,
            "sites": arguments.sites,
            "seed": arguments.seed,
        },
        "requests": {
            "sent": tally.sent,
            "201": tally.statuses[201],
            "202": tally.statuses[202],
            "204": tally.statuses[204],
            "other": _other(tally),
            "no_answer": tally.no_answer,
            "seconds": round(tally.seconds, 3),
            "per_second": round(tally.per_second, 1),
            "p50_seconds": round(tally.percentile(50), 6),
            "p99_seconds": round(tally.percentile(99), 6),
        },
        "rows": {
            "expected": differences.expected,
            "found": differences.found,
            "lost": differences.lost,
            "twice": differences.twice,
            "invented": differences.invented,
            "wrong": differences.wrong,
            "misjudged": differences.misjudged,
            "unanswered": differences.unanswered,
            "unanswered_found": differences.unanswered_found,
            "exact": differences.exact,
            "reasons": dict(differences.reasons),
        },
    }


def _other(tally: Tally) -> int:
    as_asked = sum(tally.statuses[status] for status in (201, 202, 204))
    return tally.statuses.total() - as_asked


def _whole(least: int) -> Any:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return parse


def _number(above: float, most: float) -> Any:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not above <= number <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {above:g} to {most:g}")
        return number

    return parse


def _sites(text: str) -> tuple[str, ...]:
    sites = tuple(site.strip().lower() for site in text.split(",") if site.strip())
    if not sites:
        raise argparse.ArgumentTypeError("names no site")
    return sites


def parse_arguments(words: list[str]) -> Arguments:
    """The options; exits with 2 where they are wrong, and with 0 after `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.load",
        description="Sends sessions over HTTP from many addresses (X-Forwarded-For: the collector "
        "must have this machine's address in TRUSTED_PROXIES) and real browsers' User-Agents, "
        "waits for the flushers, and compares what it was told with PostgreSQL, row by row. Some "
        f"{SIGNED_IN:g} % of the people are signed in from the start; some sessions are sent "
        "twice, some with `Bearer undefined` or an expired token.",
        epilog="From the environment: DATABASE_URL (postgresql://…), JWT_KEY (the collector's "
        "shared secret, which signs the users' tokens), and as the collector has them "
        "JWT_ALGORITHMS, JWT_AUDIENCE, JWT_USER_CLAIM, JWT_ROLE_CLAIM, CALENDAR_TIMEZONE. Exit "
        "code: 0 exact, 1 differences, 2 wrong usage or settings. Ctrl-C stops the sending and "
        "reconciles what was sent; a second one does not wait for the flushers.",
    )
    add = parser.add_argument
    add("--sessions", type=_whole(FIRST), default=10_000, metavar="N", help="default 10000")
    add(
        "--upgraded",
        type=_number(0, 100 - SIGNED_IN),
        default=10.0,
        metavar="PERCENT",
        help="of the people's sessions: begun as a visitor's, then signed in; default 10",
    )
    add(
        "--crawlers",
        type=_number(0, 100),
        default=5.0,
        metavar="PERCENT",
        help="of all sessions; default 5",
    )
    add(
        "--rate",
        type=_number(0.1, 1e6),
        metavar="R",
        help="sessions begun a second at most; default: as fast as it can",
    )
    add(
        "--connections",
        type=_whole(1),
        default=64,
        metavar="N",
        help="kept alive, one request at a time on each; default 64",
    )
    add("--url", default="http://127.0.0.1:8000", help="the collector; default %(default)s")
    add(
        "--sites",
        type=_sites,
        default=("a.example.org", "b.example.org", "c.example.org"),
        metavar="HOST,…",
        help="sites that the collector counts (SITES); default three of example.org",
    )
    add("--seed", type=int, default=1, metavar="S", help="the same people again; default 1")
    add(
        "--settle-seconds",
        type=_number(1, 86_400),
        default=60.0,
        metavar="SECONDS",
        help="how long to wait for the flushers without progress; default 60",
    )
    add("--json", type=Path, metavar="FILE", help="write the result there, too")
    return Arguments(**vars(parser.parse_args(words)))


def main() -> int:
    command: Coroutine[Any, Any, int] = load(parse_arguments(sys.argv[1:]), os.environ)
    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
