"""`python -m bench`: each benchmark beside its aim and its baselines, on servers of its own."""

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.status import Status

from bench.speed.benchmark import Result, Run, Unsound
from bench.speed.machine import describe
from bench.speed.report import save, summarise
from bench.tables import RESULTS
from runtime.command import run_command


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A module of bench/speed/ (see its `benchmark.py`), and how it runs by default."""

    meaning: str
    rounds: int
    seconds: float = 0.0
    size: int = 0
    in_all: bool = True


# Those that `all` runs take at most twenty minutes together.
BENCHMARKS = {
    "collector": Benchmark("the collector against a bare application and the obvious design", 6, 3),
    "flusher": Benchmark("the flusher against a bare COPY", 4, size=400_000),
    "latency": Benchmark("how long an answer takes, and how long until the row", 4, 8),
    "growth": Benchmark("the flusher as the table grows", 3, size=20_000_000),
    "cost": Benchmark("CPU seconds and Redis bytes a session", 3, 10),
    "memory": Benchmark("resident memory at full load", 1, 120),
    "scale": Benchmark("one Redis server or a cluster of three, one shard or eight", 5, 5),
    "reports": Benchmark("how long reports take", 3, size=50_000_000, in_all=False),
    "imports": Benchmark("the import of a large file", 1, size=1_000_000, in_all=False),
    "durability": Benchmark("what it costs to lose less", 3, 4, in_all=False),
}


async def run_all(names: Sequence[str], arguments: argparse.Namespace) -> int:
    """Runs benchmarks and saves their results; 0 if each gave its figures."""
    console = Console(stderr=True)
    failed = False
    for place, name in enumerate(names, 1):
        began = time.monotonic()
        made = describe()
        with console.status(f"{name} …") as status:
            where = f"{place} of {len(names)}  {name}"
            try:
                result = await _measure(name, arguments, status, where)
            except Unsound as error:
                console.print(f"{name}: no figure: {error}", style="red")
                failed = True
                continue
        Console().print(Markdown(save(name, result, made, arguments.results)))
        console.print(f"{name}: {time.monotonic() - began:.0f} s, saved in {arguments.results}")
    summary = summarise(arguments.results, list(BENCHMARKS))
    if len(names) > 1:
        Console().print(Markdown(summary))
    return 1 if failed else 0


async def _measure(name: str, arguments: argparse.Namespace, status: Status, where: str) -> Result:
    usual = BENCHMARKS[name]
    async with AsyncExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(
            prefix=f"bench-{name}-", dir=arguments.folder, ignore_cleanup_errors=True
        )
        run = Run(
            Path(stack.enter_context(temporary)),
            arguments.rounds or usual.rounds,
            arguments.seconds or usual.seconds,
            arguments.size or usual.size,
            lambda doing: status.update(f"{where}: {doing}"),
            stack,
        )
        result: Result = await importlib.import_module(f"bench.speed.{name}").measure(run)
    return result


def main() -> int:
    in_all = [name for name, each in BENCHMARKS.items() if each.in_all]
    lines = [f"  {name:11} {each.meaning}" for name, each in BENCHMARKS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures, in turns, this project and its baselines.\n\n" + "\n".join(lines),
        epilog=f"all: {', '.join(in_all)}, and the summary",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", choices=[*BENCHMARKS, "all"], metavar="NAME")
    add("--rounds", type=int, metavar="N", help="how many turns each contender has")
    add("--seconds", type=float, metavar="S", help="how long a turn takes")
    add("--size", type=int, metavar="N", help="how many sessions, rows or lines")
    add("--folder", type=Path, metavar="DIR", help="for the servers' data (reports: 25 GB)")
    add("--results", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results")
    arguments = parser.parse_args()
    return run_command(run_all(in_all if arguments.name == "all" else [arguments.name], arguments))


if __name__ == "__main__":
    sys.exit(main())
