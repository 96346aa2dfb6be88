"""`python -m bench.chaos`: the whole system under load, its parts killed and frozen at random.

Then every answer is reconciled with the rows: none lost, none twice, none invented; and the metrics
with each other. The same seed makes the same faults, though never at quite the same moments.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.chaos.balance import Balance, Balanced
from bench.chaos.faults import CLAIM_SECONDS, Faults
from bench.load.client import Address, Client
from bench.load.people import People, role_of
from bench.load.reconcile import Differences, settle
from bench.load.request_builder import RequestBuilder, TokenSigner
from bench.load.sender import Sender
from bench.load.sent_log import SentLog
from embedded.postgres import PostgresServer
from embedded.system import System, eventually, run_command
from embedded.valkey import ValkeyServer
from runtime.command import run_command as run_to_exit_code
from runtime.redis_client import connect_redis

RESULTS = Path(__file__).parents[1] / "results"

_SITES = ("a.example.org", "b.example.org")
_UPGRADED_PERCENT, _CRAWLERS_PERCENT = 10, 5
_CONNECTIONS = 16
_SETTLE_SECONDS = 60.0
# A fault every so many seconds, in the mean.
_BETWEEN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line."""

    minutes: float
    seed: int
    rate: float
    results: Path


async def run(arguments: Arguments) -> int:
    """Runs chaos, reconciles, prints; 0 if there is no difference."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        valkey = ValkeyServer(
            Path(folder) / "valkey",
            # A kill between the reply and the write of the append-only file loses what was
            # acknowledged: everysec may put the write off. What is promised here, `always` keeps.
            config={"appendfsync": "always"},
        )
        postgres = PostgresServer(Path(folder) / "postgres", sync=False)
        with valkey, postgres:
            extra = {
                "FLUSH_CLAIM_SECONDS": str(CLAIM_SECONDS),
                "FLUSH_MAX_SECONDS": "0.5",
                "LOG_LEVEL": "warning",
            }
            with System(valkey.url, postgres.dsn(), Path(folder) / "logs", extra) as system:
                code, _, errors = await run_command("flusher", "migrate", **system.environment)
                if code:
                    print(errors, file=sys.stderr)
                    return code
                modules = ("rotation", "collector", "collector", "flusher", "flusher")
                await system.start(*modules)
                return await _run(arguments, system, valkey, postgres)


async def _run(
    arguments: Arguments, system: System, valkey: ValkeyServer, postgres: PostgresServer
) -> int:
    console = Console(stderr=True)
    seconds = arguments.minutes * 60
    sent_log = SentLog(_SITES, role_of)
    people = People(
        max(1000, int(seconds * arguments.rate)),
        len(_SITES),
        _UPGRADED_PERCENT,
        _CRAWLERS_PERCENT,
        arguments.seed,
        sent_log.tag,
    )
    address = Address.parse(system.url)
    signer = TokenSigner({"JWT_KEY": system.environment["JWT_KEY"]})
    builder = RequestBuilder(people, signer, _SITES, str(address))
    deadline = time.monotonic() + seconds
    async with Client(address, _CONNECTIONS, keep_going=True) as client:
        sender = Sender(client, _endless(people), builder, sent_log, arguments.rate)
        stream_redis = connect_redis(valkey.url)
        balance = Balance(sender.tally, stream_redis, _CONNECTIONS)
        faults = Faults(system, valkey, postgres, random.Random(arguments.seed), balance)
        driving = asyncio.create_task(sender.run())
        looking = asyncio.create_task(faults.keep_looking())
        with _progress(console) as bar:
            task = bar.add_task("", total=seconds, doing="")
            while (left := deadline - time.monotonic()) > 0:
                tally = sender.tally
                doing = (
                    f"{faults.kills} kills, {tally.visits:,} visits, {tally.no_answer} unanswered"
                )
                bar.update(task, completed=seconds - left, doing=doing)
                await asyncio.sleep(min(left, faults.dice.expovariate(1 / _BETWEEN_SECONDS)))
                await faults.restart_what_ended_by_itself()
                await faults.fault()
        sender.stop()
        await driving
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    with console.status("everything is up again; waiting for the flushers …"):
        await asyncio.gather(*(program.ready() for program in system.programs))
        differences = await settle(
            sent_log, system.database_url, ZoneInfo("UTC"), _SETTLE_SECONDS, progress=None
        )
        # What is in PostgreSQL is counted a moment later.
        with suppress(AssertionError):  # told below
            await eventually(
                lambda: balance.balance(system.programs), lambda balanced: balanced.holds
            )
        balanced = await balance.balance(system.programs)
        await stream_redis.aclose()
    document = _document(arguments, faults, sender, differences, balanced)
    Console().print(_table(document))
    for reason, count in differences.reasons.most_common():
        console.print(f"{count} x {reason}")
    for example in differences.examples:
        console.print(f"  {example}", highlight=False, markup=False)
    for end in faults.ended_by_itself:
        console.print(f"ended by itself: {end}", highlight=False, markup=False)
    for unbalanced in faults.unbalanced:
        console.print(f"unbalanced: {unbalanced}", highlight=False, markup=False)
    if not balanced.holds:
        console.print(f"unbalanced: {balanced}", highlight=False, markup=False)
    _save(arguments, document)
    fine = differences.exact and balanced.holds
    return 0 if fine and not faults.unbalanced and not faults.ended_by_itself else 1


def _endless(people: People) -> Iterator[Any]:
    while True:
        yield from people.visits()


def _document(
    arguments: Arguments,
    faults: Faults,
    sender: Sender,
    differences: Differences,
    balanced: Balanced,
) -> dict[str, dict[str, Any]]:
    tally = sender.tally
    return {
        "run": {
            "minutes": arguments.minutes,
            "seed": arguments.seed,
            "visits a second, asked for": arguments.rate,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "Python": platform.python_version(),
            "aiohttp": version("aiohttp"),
            "redis-py": version("redis"),
            "asyncpg": version("asyncpg"),
            "commit": _commit(),
        },
        "faults": {
            "kills, in all": faults.kills,
            **dict(sorted(faults.done.items())),
            "processes that ended by themselves": len(faults.ended_by_itself),
        },
        "requests": {
            "sent": tally.sent,
            **{str(status): count for status, count in sorted(tally.statuses.items())},
            "no answer": tally.no_answer,
        },
        "rows": {
            "expected": differences.expected,
            "found": differences.found,
            "of them unanswered": differences.unanswered_found,
            "lost": differences.lost,
            "twice": differences.twice,
            "invented": differences.invented,
            "wrong": differences.wrong,
        },
        "metrics": {
            "looks at which received was not accounted for": len(faults.unbalanced),
            "accepted": balanced.accepted,
            "accepted, unseen in what was killed, at most": balanced.accepted_unseen,
            "stored or ended without an answer, at most": balanced.unanswered,
            "written, duplicate or dead": balanced.ended,
            "ended, unseen in what was killed, at most": balanced.ended_unseen,
            "still in the streams": balanced.buffered,
            "balanced": "yes" if balanced.holds else "no",
        },
        "resident memory, MiB": {
            module: f"{memory.first:.0f} first, {memory.most:.0f} most, {memory.last:.0f} last"
            for module, memory in sorted(faults.memory.items())
        },
    }


def _table(document: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="Chaos", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for section, figures in document.items():
        table.add_section()
        table.add_row(f"[bold]{section}", "")
        for name, value in figures.items():
            table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    return table


def _save(arguments: Arguments, document: dict[str, dict[str, Any]]) -> None:
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "chaos.json").write_text(json.dumps(document, indent=2) + "\n")
    lines = ["# Chaos", "", "Made by `python -m bench.chaos`.", ""]
    for section, figures in document.items():
        lines += [f"| {section} | |", "| --- | ---: |"]
        lines += [f"| {name} | {value} |" for name, value in figures.items()]
        lines.append("")
    (arguments.results / "chaos.md").write_text("\n".join(lines))


def _commit() -> str:
    result = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - whichever git there is
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip() or "unknown"


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(bar_width=20),
        TextColumn("{task.fields[doing]}"),
        TimeRemainingColumn(),
        console=console,
    )


def parse_arguments(words: list[str]) -> Arguments:
    parser = argparse.ArgumentParser(
        prog="python -m bench.chaos",
        description="Runs the whole system under load on servers of its own, kills and freezes its "
        "parts at random, and reconciles every answer with the rows. Exit code 0: no difference.",
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="of the faults; default: %(default)s")
    parser.add_argument(
        "--rate", type=float, default=100.0, help="visits a second; default: %(default)s"
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="where the table goes, as chaos.json and chaos.md; default: bench/results",
    )
    return Arguments(**vars(parser.parse_args(words)))


def main() -> int:
    return run_to_exit_code(run(parse_arguments(sys.argv[1:])))


if __name__ == "__main__":
    sys.exit(main())
