"""`python -m bench.reports`: how long reports take over years, and what they cost the flusher.

Fills a database of its own with months whose counts are known by construction, then asks as the
reader role: quietly, and while a flusher writes as fast as it can. The flusher's rate is taken with
and without somebody asking, in turns. At the end the views must show exactly what is known.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
from redis.asyncio import Redis
from rich.console import Console

from bench.known_sessions import Known, site_name
from contract import keys
from contract.calendar import Month, from_us, month_at
from contract.record import FIELD, encode
from embedded.postgres import PostgresServer
from embedded.system import System
from embedded.valkey import ValkeyServer
from flusher.counting import MonthCounter
from flusher.database import Database
from flusher.migrate import migrate
from process.command import run_command as run_to_exit_code
from process.redis_client import connect_redis

RESULTS = Path(__file__).parent / "results"
_FILL = (Path(__file__).parent / "known_months.sql").read_text()
_UTC = ZoneInfo("UTC")
_SHARDS = 8
_PIPELINE = 2_000
_POLL_SECONDS = 0.02
# How often somebody asks while the flusher's rate is taken: an overview, and a site's report.
_BETWEEN_ASKING_SECONDS = 1.0
_QUERIES = {
    "one site": f"SELECT * FROM monthly_impact WHERE site = '{site_name(7)}'",  # noqa: S608 - ours
    "overview": "SELECT * FROM monthly_impact",
    "one site, by day": f"SELECT * FROM daily_impact WHERE site = '{site_name(7)}'",  # noqa: S608 - ours
}
_SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB"}


@dataclass
class Measured:
    """Seconds of each query, quiet and under writing; the flusher's sessions a second."""

    fill_seconds: float = 0.0
    count_seconds: float = 0.0
    quiet: dict[str, list[float]] = field(default_factory=dict)
    busy: dict[str, list[float]] = field(default_factory=dict)
    rate_alone: list[float] = field(default_factory=list)
    rate_asked: list[float] = field(default_factory=list)


@dataclass
class Rig:
    """The servers, what is known of their content, and what was measured."""

    system: System
    redis: Redis
    known: Known
    months: list[Month]
    measured: Measured = field(default_factory=Measured)
    written: int = 0

    async def fill(self, console: Console) -> None:
        connection = await asyncpg.connect(self.system.database_url)
        await migrate(connection, _UTC)
        now_us = time.time_ns() // 1000
        started = time.perf_counter()
        for number, month in enumerate(self.months):
            with console.status(f"filling {month}, {number + 1} of {len(self.months)} …"):
                await connection.execute("SELECT flusher.create_month($1)", month.first_day)
                span = month.starts_us(UTC), min(month.ends_us(UTC), now_us - 60_000_000)
                await connection.execute(
                    _FILL,
                    month.first_day,
                    self.known.sessions,
                    self.known.sites,
                    number,
                    from_us(span[0]),
                    from_us(span[1]),
                )
        await connection.execute("ANALYZE sessions")
        self.measured.fill_seconds = time.perf_counter() - started
        started = time.perf_counter()
        async with Database(self.system.database_url) as database:
            with console.status("counting …"):
                await MonthCounter(database, _UTC).run_once(now_us, at_once=True)
        self.measured.count_seconds = time.perf_counter() - started
        # As the operator's autovacuum would have by the time somebody reads.
        await connection.execute("VACUUM (ANALYZE)")
        await connection.execute("CREATE ROLE metabase LOGIN; GRANT impact_reader TO metabase")
        await connection.close()

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(
            self.system.database_url.replace("postgres@", "metabase@")
        )
        yield connection
        await connection.close()

    async def ask(self, into: dict[str, list[float]], name: str, by: asyncpg.Connection) -> None:
        started = time.perf_counter()
        await by.fetch(_QUERIES[name])
        into.setdefault(name, []).append(time.perf_counter() - started)

    async def drain(self, entries: int, *, asked: bool) -> None:
        """A flusher writes so many sessions; its rate goes to what was measured."""
        await self._append(entries)
        flusher = self.system.program("flusher", LOG_LEVEL="warning").start()
        left = entries
        while left == entries:
            await asyncio.sleep(_POLL_SECONDS)
            left = await self._left()
        first, started = entries - left, time.perf_counter()
        ended = asyncio.Event()
        asking = asyncio.create_task(self._keep_asking(ended)) if asked else None
        while left:
            await asyncio.sleep(_POLL_SECONDS)
            left = await self._left()
        rate = (entries - first) / (time.perf_counter() - started)
        (self.measured.rate_asked if asked else self.measured.rate_alone).append(rate)
        ended.set()
        if asking is not None:
            await asking
        await flusher.stop()

    async def _keep_asking(self, ended: asyncio.Event) -> None:
        async with self.reader() as reader:
            while not ended.is_set():
                for name in _QUERIES:
                    await self.ask(self.measured.busy, name, reader)
                await asyncio.sleep(_BETWEEN_ASKING_SECONDS)

    async def _append(self, entries: int) -> None:
        for start in range(0, entries, _PIPELINE):
            pipeline = self.redis.pipeline(transaction=False)
            for _ in range(min(_PIPELINE, entries - start)):
                at_us = time.time_ns() // 1000
                session = self.known.next_session(self.months[-1], self.written, at_us)
                shard = keys.shard_of(session.id, _SHARDS)
                pipeline.xadd(keys.stream(shard), {FIELD: encode(session)})
                self.written += 1
            await pipeline.execute()

    async def _left(self) -> int:
        pipeline = self.redis.pipeline(transaction=False)
        for shard in range(_SHARDS):
            pipeline.xlen(keys.stream(shard))
        return sum(await pipeline.execute())

    async def differences(self) -> int:
        """How many rows of the overview are not what is known."""
        sites = range(self.known.sites)
        known = {self.known.row(month, site) for month in self.months[:-1] for site in sites}
        each, rest = divmod(self.written, self.known.sites)
        known |= {self.known.row(self.months[-1], site, each + (site < rest)) for site in sites}
        async with self.reader() as reader:
            shown = {tuple(row) for row in await reader.fetch(_QUERIES["overview"])}
        return len(known ^ shown)


async def run(arguments: argparse.Namespace) -> int:
    """Measures, prints and saves a table; 1 when a view shows something else than is known."""
    console = Console(stderr=True)
    current = month_at(time.time_ns() // 1000, _UTC)
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
                rig = Rig(system, redis, known, months)
                await rig.fill(console)
                async with rig.reader() as reader:
                    for _ in range(5):
                        for name in _QUERIES:
                            await rig.ask(rig.measured.quiet, name, reader)
                for number in range(arguments.rounds):
                    # In turns, and each first every other time.
                    for asked in (number % 2 == 0, number % 2 == 1):
                        with console.status(f"round {number + 1} of {arguments.rounds} …"):
                            await rig.drain(arguments.entries, asked=asked)
                differences = await rig.differences()
            await redis.aclose()
    if differences:
        print(f"error: {differences} rows differ from what is known", file=sys.stderr)
        return 1
    _report(arguments, rig)
    return 0


def _report(arguments: argparse.Namespace, rig: Rig) -> None:
    measured, known = rig.measured, rig.known
    rows = known.sessions * known.sites * len(rig.months)
    lines = ["| | median | most | least |", "| --- | ---: | ---: | ---: |"]
    for when, times in (("quiet", measured.quiet), ("flusher writing", measured.busy)):
        for name, seconds in times.items():
            spread = (statistics.median(seconds), max(seconds), min(seconds))
            cells = " | ".join(f"{each * 1000:,.0f} ms" for each in spread)
            lines.append(f"| {name}, {when} ({len(seconds)} times) | {cells} |")
    for name, rates in (
        ("flusher alone", measured.rate_alone),
        ("flusher, reports asked for each second", measured.rate_asked),
    ):
        spread = (statistics.median(rates), max(rates), min(rates))
        lines.append(f"| {name} | " + " | ".join(f"{each:,.0f} /s" for each in spread) + " |")
    load = os.getloadavg()[2]
    head = [
        "# Reports",
        "",
        "Made by `python -m bench.reports`: the views' counts were exactly those that are known.",
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
    parser = argparse.ArgumentParser(prog="python -m bench.reports", description=__doc__)
    for name, default, meaning in (
        ("sessions", 50_000_000, "in all months together"),
        ("months", 24, "the current one included"),
        ("sites", 300, "each with as many sessions"),
        ("entries", 200_000, "that the flusher writes, each time its rate is taken"),
        ("rounds", 3, "each with and without somebody asking"),
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
