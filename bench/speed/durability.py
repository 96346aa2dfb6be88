"""`python -m bench.speed.durability`: what it costs to lose less, side by side.

Each pair of Redis's `appendfsync` and our `APPEND_DURABILITY` gets the same load, in turns, on a
system of its own; medians over the rounds. A round whose rows do not reconcile ends the run.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from embedded.postgres import PostgresServer
from embedded.system import System, run_command
from embedded.valkey import ValkeyServer
from runtime.command import run_command as run_to_exit_code

RESULTS = Path(__file__).parents[1] / "results"
_COMBINATIONS = (
    ("everysec", "server"),
    ("always", "server"),
    ("everysec", "fsync"),
    ("always", "fsync"),
)


async def run(rounds: int, sessions: int, results: Path) -> int:
    """Measures, prints and saves a table; 0 when every round reconciled."""
    console = Console(stderr=True)
    measured: dict[tuple[str, str], list[dict[str, Any]]] = {each: [] for each in _COMBINATIONS}
    for number in range(1, rounds + 1):
        for combination in _COMBINATIONS:
            with console.status(f"round {number} of {rounds}: {' '.join(combination)} …"):
                measured[combination].append(await _measure(*combination, sessions))
    lines = [
        "| `appendfsync` | `APPEND_DURABILITY` | requests/s | p50, ms | p99, ms |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for (appendfsync, durability), figures in measured.items():
        rate = _spread([figure["per_second"] for figure in figures], "{:,.0f}")
        p50 = _spread([figure["p50_seconds"] * 1000 for figure in figures], "{:.0f}")
        p99 = _spread([figure["p99_seconds"] * 1000 for figure in figures], "{:.0f}")
        lines.append(f"| `{appendfsync}` | `{durability}` | {rate} | {p50} | {p99} |")
    print("\n".join(lines))
    _save(lines, results)
    return 0


async def _measure(appendfsync: str, durability: str, sessions: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="durability-") as folder:
        valkey = ValkeyServer(Path(folder) / "valkey", config={"appendfsync": appendfsync})
        postgres = PostgresServer(Path(folder) / "postgres", sync=False)
        extra = {"APPEND_DURABILITY": durability, "LOG_LEVEL": "warning"}
        with valkey, postgres:
            system = System(valkey.url, postgres.dsn(), Path(folder) / "logs", extra)
            with system:
                await run_command("flusher", "migrate", **system.environment)
                await system.start("rotation", "collector", "flusher")
                figures = Path(folder) / "load.json"
                load = ("--url", system.url, "--sessions", str(sessions), "--json", str(figures))
                code, output, errors = await run_command("bench.load", *load, **system.environment)
                if code:
                    raise RuntimeError(f"the load did not reconcile:\n{output}{errors}")
                requests: dict[str, Any] = json.loads(figures.read_text())["requests"]
                return requests


def _save(lines: list[str], results: Path) -> None:
    head = [
        "# Durability",
        "",
        "Made by `python -m bench.speed.durability`: medians (least to most).",
        "",
    ]
    results.mkdir(parents=True, exist_ok=True)
    (results / "durability.md").write_text("\n".join([*head, *lines, ""]))


def _spread(figures: list[float], form: str) -> str:
    middle, least, most = statistics.median(figures), min(figures), max(figures)
    return f"{form.format(middle)} ({form.format(least)} to {form.format(most)})"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.speed.durability", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--sessions", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    arguments = parser.parse_args()
    return run_to_exit_code(run(arguments.rounds, arguments.sessions, arguments.results))


if __name__ == "__main__":
    sys.exit(main())
