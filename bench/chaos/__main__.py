"""`python -m bench.chaos`: the whole system under load, its parts killed and frozen at random.

Then every answer is compared with the rows (none lost, none twice, none invented), and the metrics
with each other. The same seed makes the same faults, though not at exactly the same moments.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from datetime import UTC
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress

from bench.chaos.balance import Balance, Balanced
from bench.chaos.faults import CLAIM_SECONDS, Faults
from bench.load.client import connect
from bench.load.people import Plan
from bench.load.reconcile import settle
from bench.load.request_builder import TokenSigner
from bench.load.sender import Sender
from bench.speed.machine import describe
from bench.speed.ours import Ours, start_ours
from bench.tables import RESULTS, Document, document_tables, save_page
from embedded.system import eventually
from runtime.command import run_command
from runtime.redis_client import connect_redis

_SITES = ("a.example.org", "b.example.org")
_CONNECTIONS = 16
_SETTLE_SECONDS = 60.0
# The mean time between two faults.
_BETWEEN_SECONDS = 1.0


async def run(arguments: argparse.Namespace) -> int:
    """Runs chaos, compares, prints, saves; 0 if there is no difference."""
    started = describe()
    settings = {"FLUSH_CLAIM_SECONDS": str(CLAIM_SECONDS), "FLUSH_MAX_SECONDS": "0.5"}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        # With `everysec` Redis may acknowledge before it writes the append-only file. A kill in
        # between would lose that session. `always` writes first.
        ours = await start_ours(folder, stack, settings, redis_config={"appendfsync": "always"})
        await ours.system.start("rotation", "collector", "collector", "flusher", "flusher")
        figures, wrong = await _run(arguments, ours)
    minutes, seed, rate = arguments.minutes, arguments.seed, arguments.rate
    about = {"minutes": minutes, "seed": seed, "visits a second, asked for": rate}
    document = {"run": {**about, **started}, **figures}
    lines = ["# Chaos", "", "Made by `python -m bench.chaos`.", "", *document_tables(document)]
    Console().print(Markdown(save_page(arguments.results, "chaos", lines)))
    (arguments.results / "chaos.json").write_text(json.dumps(document, indent=2) + "\n")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


async def _run(arguments: argparse.Namespace, ours: Ours) -> tuple[Document, list[str]]:
    """The figures of a run, and what is wrong, in words."""
    system = ours.system
    seconds = arguments.minutes * 60
    # More visits than will be sent, even if the last fault takes long.
    visits = int((seconds + 60) * arguments.rate)
    signer = TokenSigner({"JWT_KEY": system.environment["JWT_KEY"]})
    stream_redis = connect_redis(ours.redis[0].url)
    plan = Plan(_SITES, visits, seed=arguments.seed)
    with connect(system.url, _CONNECTIONS, keep_going=True) as connections:
        sender = Sender(connections, plan, signer, arguments.rate)
        balance = Balance(sender.tally, stream_redis, _CONNECTIONS)
        faults = Faults(ours, random.Random(arguments.seed), balance)
        sending = asyncio.create_task(sender.run())
        watching = asyncio.create_task(faults.keep_looking())
        await _make_faults(faults, seconds)
        sender.stop()
        await sending
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    await asyncio.gather(*(program.ready() for program in system.programs))
    differences = await settle(sender.sent_log, system.database_url, UTC, _SETTLE_SECONDS)
    # A flusher counts a moment after it has stored. If the sides stay apart, the result shows it.
    with suppress(AssertionError):
        await eventually(lambda: balance.balance(system.programs), lambda each: each.holds)
    balanced = await balance.balance(system.programs)
    await stream_redis.aclose()
    wrong = [
        *differences.lines(),
        *(f"ended by itself: {end}" for end in faults.ended_by_itself),
        *(f"unbalanced: {each}" for each in faults.unbalanced),
        *(() if balanced.holds else [f"unbalanced: {balanced}"]),
    ]
    requests, rows = sender.tally.counts(), differences.counts()
    return {**_figures(faults, balanced), "requests": requests, "rows": rows}, wrong


async def _make_faults(faults: Faults, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=seconds)
        while (left := deadline - time.monotonic()) > 0:
            progress.update(bar, completed=seconds - left, description=f"{faults.kills} kills")
            await asyncio.sleep(min(left, faults.dice.expovariate(1 / _BETWEEN_SECONDS)))
            await faults.restart_what_ended_by_itself()
            await faults.fault()


def _figures(faults: Faults, balanced: Balanced) -> Document:
    return {
        "faults": {
            "kills, in all": faults.kills,
            **dict(sorted(faults.done.items())),
            "processes that ended by themselves": len(faults.ended_by_itself),
        },
        "metrics": {
            "times at which received was not accounted for": len(faults.unbalanced),
            "accepted": balanced.accepted,
            "accepted, unseen in what was killed, at most": balanced.accepted_unseen,
            "stored or ended without an answer, at most": balanced.unanswered,
            "written, duplicate or dead": balanced.ended,
            "ended, unseen in what was killed, at most": balanced.ended_unseen,
            "still in the streams": balanced.buffered,
            "balanced": "yes" if balanced.holds else "no",
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.chaos",
        description="Runs the whole system under load on servers of its own, kills and freezes its "
        "parts at random, and compares every answer with the rows. Exit code 0: no difference.",
    )
    add = parser.add_argument
    add("--minutes", type=float, default=1.0, help="default: %(default)s")
    add("--seed", type=int, default=1, help="of the faults; default: %(default)s")
    add("--rate", type=float, default=100.0, help="visits a second; default: %(default)s")
    add("--results", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results")
    return run_command(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
