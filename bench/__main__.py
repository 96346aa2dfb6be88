"""`python -m bench`: each benchmark beside its limit and its baselines, on servers of its own."""

import argparse
import importlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.status import Status

from bench.speed.benchmark import Result, Run, Unsound
from bench.speed.machine import describe
from bench.speed.report import RESULTS, markdown, save, summarise
from runtime.command import run_command

# Each is a module of bench/speed/ (see its `benchmark.py`), with its rounds and the seconds of a
# turn: all of them together take at most twenty minutes.
BENCHMARKS: dict[str, tuple[str, int, float]] = {
    "collector": ("the collector against a bare application and the obvious design", 6, 3.0),
    "flusher": ("the flusher against a bare COPY", 4, 0.0),
    "latency": ("how long an answer takes, and how long until the row", 4, 8.0),
    "growth": ("the flusher as the table grows", 3, 0.0),
    "cost": ("CPU seconds and Redis bytes a session", 3, 10.0),
    "memory": ("resident memory at full load", 1, 120.0),
    "scale": ("one Redis server or a cluster of three, one shard or eight", 5, 5.0),
}


async def run(names: list[str], rounds: int | None, seconds: float | None, results: Path) -> int:
    """Runs benchmarks and saves what they found; 0 if all figures could be had."""
    console = Console(stderr=True)
    failed = []
    for place, name in enumerate(names, 1):
        began = time.monotonic()
        made = describe()
        with console.status(f"{name} …") as status:
            try:
                say = partial(_say, status, f"{place} of {len(names)}  {name}")
                result = await _measure(name, rounds, seconds, say)
            except Unsound as error:
                console.print(f"{name}: no figure: {error}", style="red")
                failed.append(name)
                continue
        save(result, made, results)
        Console().print(Markdown(markdown(result, made)))
        console.print(f"{name}: {time.monotonic() - began:.0f} s, saved in {results}")
    summary = summarise(results, list(BENCHMARKS))
    if len(names) > 1:
        Console().print(Markdown(summary))
    return 1 if failed else 0


def _say(status: Status, where: str, doing: str) -> None:
    status.update(f"{where}: {doing}")


async def _measure(
    name: str, rounds: int | None, seconds: float | None, say: Callable[[str], None]
) -> Result:
    _, usual_rounds, usual_seconds = BENCHMARKS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
    try:
        module = importlib.import_module(f"bench.speed.{name}")
        given = Run(folder, rounds or usual_rounds, seconds or usual_seconds, say)
        result: Result = await module.measure(given)
        return result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    width = max(map(len, BENCHMARKS))
    lines = [f"  {name:{width}}  {meaning}" for name, (meaning, _, _) in BENCHMARKS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures, in turns, what this project does and what it is measured against.\n"
        "\n" + "\n".join([*lines, f"  {'all':{width}}  each of them, and the summary"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=[*BENCHMARKS, "all"], metavar="NAME")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each has its turn")
    parser.add_argument("--seconds", type=float, metavar="S", help="how long a turn takes")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results"
    )
    arguments = parser.parse_args()
    names = list(BENCHMARKS) if arguments.name == "all" else [arguments.name]
    return run_command(run(names, arguments.rounds, arguments.seconds, arguments.results))


if __name__ == "__main__":
    sys.exit(main())
