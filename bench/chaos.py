"""`python -m bench.chaos`: the whole system under load, its parts killed and frozen at random.

Then every answer is reconciled with the rows: none lost, none twice, none invented. The same seed
makes the same faults, though never at quite the same moments.
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
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psutil  # type: ignore[import-untyped]  # it ships no types
import redis
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.asking import Asking, TokenSigner
from bench.client import Address, Client
from bench.drive import Drive
from bench.people import People, role_of
from bench.reconcile import Differences, settle
from bench.told import Told
from contract import keys
from embedded.postgres import PostgresServer
from embedded.server_process import ServerProcess
from embedded.system import Program, System, run_command
from embedded.valkey import ValkeyServer
from process.command import run_command as run_to_exit_code

RESULTS = Path(__file__).parent / "results"

_SITES = ("a.example.org", "b.example.org")
_UPGRADED_PERCENT, _CRAWLERS_PERCENT = 10, 5
_CONNECTIONS = 16
_CLAIM_SECONDS = 4
_SETTLE_SECONDS = 60.0
# A fault every so many seconds, in the mean; each part is away or frozen for at most _AWAY_SECONDS.
_BETWEEN_SECONDS = 1.0
_AWAY_SECONDS = 2.0 * _CLAIM_SECONDS
_SAMPLE_SECONDS = 2.0
_UNTIL_WARM_SECONDS = 30.0


@dataclass(slots=True)
class Memory:
    """Resident memory of one kind of process, in MiB, over all that ran."""

    first: float = 0.0
    most: float = 0.0
    last: float = 0.0

    def sample(self, mib: float) -> None:
        self.first = self.first or mib
        self.most = max(self.most, mib)
        self.last = mib


@dataclass
class Chaos:
    """The system, and everything that is done to it."""

    system: System
    valkey: ValkeyServer
    postgres: PostgresServer
    dice: random.Random
    done: Counter[str] = field(default_factory=Counter)
    memory: dict[str, Memory] = field(default_factory=dict)
    ended_by_itself: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return sum(count for name, count in self.done.items() if name.startswith("kill"))

    async def fault(self) -> None:
        """One fault, or two at once, ended again when this returns."""
        faults: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            *((f"kill {p.module}", lambda p=p: self._kill(p)) for p in self.system.programs),
            *((f"kill {p.module}", lambda p=p: self._kill(p)) for p in self.system.programs),
            *((f"freeze {p.module}", lambda p=p: self._freeze(p)) for p in self.system.programs),
            *((f"stop {p.module}", lambda p=p: self._stop(p)) for p in self.system.programs),
            ("kill Valkey", lambda: self._kill_server(self.valkey)),
            ("kill Valkey", lambda: self._kill_server(self.valkey)),
            ("freeze Valkey", lambda: self._freeze_server(self.valkey)),
            ("kill PostgreSQL", lambda: self._kill_server(self.postgres)),
            ("kill PostgreSQL", lambda: self._kill_server(self.postgres)),
            ("freeze PostgreSQL", lambda: self._freeze_server(self.postgres)),
            ("destroy a consumer group", self._destroy_group),
        ]
        one, two = self.dice.sample(faults, 2)
        chosen = [one]
        # Never two on one part: what is killed can't be frozen.
        if self.dice.random() < 0.3 and one[0].split()[-1] != two[0].split()[-1]:
            chosen.append(two)
        for name, _ in chosen:
            self.done[name] += 1
        await asyncio.gather(*(fault() for _, fault in chosen))

    def restart_what_ended_by_itself(self) -> None:
        """As a supervisor would; but no fault may end a process, so that the run has failed."""
        for program in self.system.programs:
            if program.running.poll() is not None:
                self.ended_by_itself.append(f"{program.module}: {program.log[-1500:]}")
                program.start()

    async def keep_sampling(self) -> None:
        """Resident memory, of processes that are warm."""
        while True:
            for program in self.system.programs:
                with suppress(psutil.Error, RuntimeError):
                    process = psutil.Process(program.running.pid)
                    if time.time() - process.create_time() > _UNTIL_WARM_SECONDS:
                        mib = process.memory_info().rss / 2**20
                        self.memory.setdefault(program.module, Memory()).sample(mib)
            await asyncio.sleep(_SAMPLE_SECONDS)

    def _away(self) -> float:
        return self.dice.uniform(0, _AWAY_SECONDS) * self.dice.random()

    async def _kill(self, program: Program) -> None:
        away = self._away()
        program.kill()
        await asyncio.sleep(away)
        program.start()

    async def _stop(self, program: Program) -> None:
        await program.stop()
        program.start()

    async def _freeze(self, program: Program) -> None:
        away = self.dice.uniform(0, _AWAY_SECONDS)
        program.freeze()
        await asyncio.sleep(away)
        program.thaw()

    async def _kill_server(self, server: ServerProcess) -> None:
        away = self._away()
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(away)
        await asyncio.to_thread(server.start)

    async def _freeze_server(self, server: ServerProcess) -> None:
        away = self.dice.uniform(0, _AWAY_SECONDS)
        server.freeze()
        await asyncio.sleep(away)
        server.thaw()

    async def _destroy_group(self) -> None:
        shard = self.dice.randrange(8)
        with suppress(redis.RedisError), redis.Redis(port=self.valkey.port) as client:
            client.xgroup_destroy(keys.stream(shard), keys.GROUP)


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
                "FLUSH_CLAIM_SECONDS": str(_CLAIM_SECONDS),
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
                chaos = Chaos(system, valkey, postgres, random.Random(arguments.seed))
                return await _run(arguments, chaos)


async def _run(arguments: Arguments, chaos: Chaos) -> int:
    system = chaos.system
    console = Console(stderr=True)
    seconds = arguments.minutes * 60
    told = Told(_SITES, role_of)
    people = People(
        max(1000, int(seconds * arguments.rate)),
        len(_SITES),
        _UPGRADED_PERCENT,
        _CRAWLERS_PERCENT,
        arguments.seed,
        told.tag,
    )
    address = Address.parse(system.url)
    signer = TokenSigner({"JWT_KEY": system.environment["JWT_KEY"]})
    asking = Asking(people, signer, _SITES, str(address))
    deadline = time.monotonic() + seconds
    async with Client(address, _CONNECTIONS, keep_going=True) as client:
        drive = Drive(client, _endless(people), asking, told, arguments.rate)
        driving = asyncio.create_task(drive.run())
        sampling = asyncio.create_task(chaos.keep_sampling())
        with _progress(console) as bar:
            task = bar.add_task("", total=seconds, doing="")
            while (left := deadline - time.monotonic()) > 0:
                tally = drive.tally
                doing = f"{chaos.kills} kills  {tally.visits:,} visits  no answer {tally.no_answer}"
                bar.update(task, completed=seconds - left, doing=doing)
                await asyncio.sleep(min(left, chaos.dice.expovariate(1 / _BETWEEN_SECONDS)))
                chaos.restart_what_ended_by_itself()
                await chaos.fault()
        drive.stop()
        await driving
        sampling.cancel()
    with console.status("everything is up again; waiting for the flushers …"):
        await asyncio.gather(*(program.ready() for program in system.programs))
        differences = await settle(
            told, system.database_url, ZoneInfo("UTC"), _SETTLE_SECONDS, progress=None
        )
    document = _document(arguments, chaos, drive, differences)
    Console().print(_table(document))
    for reason, count in differences.reasons.most_common():
        console.print(f"{count} x {reason}")
    for example in differences.examples:
        console.print(f"  {example}", highlight=False, markup=False)
    for end in chaos.ended_by_itself:
        console.print(f"ended by itself: {end}", highlight=False, markup=False)
    _save(arguments, document)
    return 0 if differences.exact and not chaos.ended_by_itself else 1


def _endless(people: People) -> Iterator[Any]:
    while True:
        yield from people.visits()


def _document(
    arguments: Arguments, chaos: Chaos, drive: Drive, differences: Differences
) -> dict[str, dict[str, Any]]:
    tally = drive.tally
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
            "kills, in all": chaos.kills,
            **dict(sorted(chaos.done.items())),
            "processes that ended by themselves": len(chaos.ended_by_itself),
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
        "resident memory, MiB": {
            module: f"{memory.first:.0f} first, {memory.most:.0f} most, {memory.last:.0f} last"
            for module, memory in sorted(chaos.memory.items())
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
