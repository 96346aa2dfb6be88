"""`python -m bench.speed.reports`: how long reports take, and what they cost the flusher.

Fills a database of its own with months whose counts are known by construction, then asks as the
reader role: quietly, and while a flusher writes as fast as it can. The flusher's rate is taken with
nobody asking, with an analyst who looks each second, and with one who looks every ten seconds, in
turns. At the end the views must show exactly what is known.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from bench.speed.known_sessions import Known
from bench.speed.reports_rig import ALONE, EACH_SECOND, PACES, Measured, Progress, Rig
from contract.calendar import month_at
from embedded.postgres import PostgresServer
from embedded.system import System
from embedded.valkey import ValkeyServer
from runtime.clock import wall_clock
from runtime.command import run_command as run_to_exit_code
from runtime.redis_client import connect_redis

RESULTS = Path(__file__).parents[1] / "results"
_UTC = ZoneInfo("UTC")
_SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB"}
_LOOKS_WHEN_QUIET = 5
_MOST_SECONDS = {"overview": 0.05, "one site": 0.01}
_LEAST_SHARE = 0.97


async def run(arguments: argparse.Namespace) -> int:
    """Measures, prints and saves a table; 1 when a view shows something else than is known."""
    progress = Progress()
    current = month_at(wall_clock(), _UTC)
    months = [current.plus(-number) for number in range(arguments.months - 1, -1, -1)]
    known = Known(
        arguments.sites, max(arguments.sessions // arguments.months // arguments.sites, 1)
    )
    with tempfile.TemporaryDirectory(prefix="reports-", dir=arguments.folder) as folder:
        valkey = ValkeyServer(Path(folder) / "valkey")
        postgres = PostgresServer(Path(folder) / "postgres", settings=_SETTINGS, sync=False)
        with valkey, postgres:
            redis = connect_redis(valkey.url)
            with System(valkey.url, postgres.dsn(), Path(folder) / "logs") as system:
                rig = Rig(system, redis, (valkey.pid, postgres.pid), known, months, progress)
                await rig.fill()
                progress.tell("asking while it is quiet")
                async with rig.reader() as reader:
                    for _ in range(_LOOKS_WHEN_QUIET):
                        await rig.look(rig.measured.quiet, reader)
                for number in range(arguments.rounds):
                    progress.tell(f"round {number + 1} of {arguments.rounds}")
                    # Each is the first one once in three rounds.
                    turn = number % len(PACES)
                    for pace in (*PACES[turn:], *PACES[:turn]):
                        await rig.drain(arguments.entries, pace)
                differences = await rig.differences()
            await redis.aclose()
    if differences:
        print(f"error: {differences} rows differ from what is known", file=sys.stderr)
        return 1
    _report(arguments, rig)
    return 0


def _table(measured: Measured) -> list[str]:
    lines = ["| | median | most | least |", "| --- | ---: | ---: | ---: |"]
    for when, times in (("quiet", measured.quiet), ("flusher writing", measured.busy)):
        for name, seconds in times.items():
            cells = " | ".join(f"{each * 1000:,.0f} ms" for each in _spread(seconds))
            lines.append(f"| {name}, {when} ({len(seconds)} times) | {cells} |")
    alone = measured.rates[ALONE.name]
    for name, rates in measured.rates.items():
        cells = " | ".join(f"{each:,.0f} /s" for each in _spread(rates))
        lines.append(f"| {name} | {cells} |")
    for name, each_us in measured.cpu_us.items():
        cells = " | ".join(f"{each:.1f} µs" for each in _spread(each_us))
        lines.append(f"| {name}: CPU a session, servers included | {cells} |")
    for name, rates in measured.rates.items():
        if name != ALONE.name:
            ratios = [rate / other for rate, other in zip(rates, alone, strict=True)]
            cells = " | ".join(f"{each:.2f}" for each in _spread(ratios))
            lines.append(f"| {name}: of alone, by round | {cells} |")
    return lines


def _reached(measured: Measured) -> list[str]:
    """What is to be reached: looks at the most, while a flusher writes; the flusher's rate."""
    lines = ["| to be reached | | reached | |", "| --- | --- | --- | --- |"]
    for name, most in _MOST_SECONDS.items():
        longest = max(measured.busy[name])
        said = "reached" if longest <= most else "**not reached**"
        lines.append(
            f"| {name}, flusher writing, at the most | ≤ {most * 1000:.0f} ms "
            f"| {longest * 1000:,.0f} ms | {said} |"
        )
    rates = zip(measured.rates[EACH_SECOND.name], measured.rates[ALONE.name], strict=True)
    share = statistics.median(rate / alone for rate, alone in rates)
    said = "reached" if share >= _LEAST_SHARE else "**not reached**"
    lines.append(
        f"| {EACH_SECOND.name}, of itself alone | ≥ {_LEAST_SHARE} | {share:.2f} | {said} |"
    )
    return [*lines, ""]


def _spread(values: list[float]) -> tuple[float, float, float]:
    return statistics.median(values), max(values), min(values)


def _report(arguments: argparse.Namespace, rig: Rig) -> None:
    measured, known = rig.measured, rig.known
    rows = known.sessions * known.sites * len(rig.months)
    lines = [*_reached(measured), *_table(measured)]
    load = os.getloadavg()[2]
    head = [
        "# Reports",
        "",
        "Made by `python -m bench.speed.reports`. The views' counts were exactly those known.",
        "",
        f"{rows:,} sessions in {len(rig.months)} months on {known.sites} sites.",
        f"{rig.written:,} were written meanwhile.",
        (
            f"Filling took {measured.fill_seconds:,.0f} s, and counting all of it "
            f"{measured.count_seconds:,.0f} s."
        ),
        f"{platform.machine()}, {os.cpu_count()} cores, load of the last 15 minutes {load:.1f}.",
        f"Python {platform.python_version()}, commit {_commit()}.",
        "",
    ]
    print("\n".join(lines))
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "reports.md").write_text("\n".join([*head, *lines, ""]))
    figures: dict[str, Any] = {
        "sessions": rows,
        "months": len(rig.months),
        "sites": known.sites,
        "written": rig.written,
        "load_15_minutes": load,
        "commit": _commit(),
        **{name: getattr(measured, name) for name in Measured.__dataclass_fields__},
    }
    (arguments.results / "reports.json").write_text(json.dumps(figures, indent=2) + "\n")


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    asked = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, check=False)
    return asked.stdout.decode().strip() or "unknown"


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.speed.reports", description=__doc__)
    for name, default, meaning in (
        ("sessions", 50_000_000, "in all months together"),
        ("months", 24, "the current one included"),
        ("sites", 300, "each with as many sessions"),
        ("entries", 1_200_000, "that the flusher writes, each time its rate is taken"),
        ("rounds", 3, "each with nobody asking, each second, and every ten seconds"),
    ):
        text = f"{meaning} (default: %(default)s)"
        parser.add_argument(f"--{name}", type=_positive, default=default, metavar="N", help=text)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="where the servers' data is put: some 0.5 GB a million",
    )
    return run_to_exit_code(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
