"""`python -m bench.speed.imports`: the import of a large file, and a bare COPY of the rows it made.

Each goes into a new database of one server. Lines, rows and counts are checked before a figure is
printed. The COPY has the rows in PostgreSQL's binary format: it does not read, check or count them.
"""

import argparse
import asyncio
import gzip
import hashlib
import random
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg
import psutil  # type: ignore[import-untyped]  # it ships no types

from bench.speed.benchmark import Unsound
from bench.speed.machine import cpu_seconds, describe, resident_mib
from contract.calendar import Month
from embedded.postgres import PostgresServer
from embedded.system import Program
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database
from flusher.postgres.migrate import migrate
from flusher.rows.copy_format import COLUMNS
from runtime.command import run_command

_SETTINGS: Final = {"shared_buffers": "2GB", "max_wal_size": "8GB", "checkpoint_timeout": "1h"}
_MONTHS: Final = [Month(2022, 1).plus(months) for months in range(36)]
_LOOK_SECONDS: Final = 0.25


def write_file(file: Path, lines: int) -> None:
    """Sessions of three years in order, two a person and month, a tenth of them signed in."""
    draw, step = random.Random(5), timedelta(days=3 * 365) / lines
    people, month = [""], 0
    with gzip.open(file, "wt", 1) if file.suffix == ".gz" else file.open("w") as text:
        text.write("id,monthly_user_hash,highest_role,created_at\n")
        for number in range(lines):
            at = datetime(2022, 1, 1, tzinfo=UTC) + number * step
            if month != at.month:
                month = at.month
                names = (f"{at:%Y-%m} {person}".encode() for person in range(lines // 72 + 1))
                people = [hashlib.sha256(name).hexdigest() for name in names]
            role = "user" if draw.random() < 0.1 else ""
            text.write(f"{number},{draw.choice(people)},{role},{at:%Y-%m-%d %H:%M:%S.%f}\n")


async def import_file(server: PostgresServer, file: Path, lines: int, rows: Path) -> str:
    """The command's turn: what it took. It leaves in `rows` what was stored."""
    dsn = await _new_database(server, "imported")
    arguments = ("import", "--site=city.example.org", str(file))
    before, began = cpu_seconds(server.pid), time.perf_counter()
    program = Program("flusher", {"DATABASE_URL": dsn}, rows.with_suffix(".log"), arguments).start()
    resident, ours = [0.0], 0.0
    while program.running.poll() is None:
        try:
            resident.append(resident_mib(program.running.pid))
            ours = cpu_seconds(program.running.pid)
        except psutil.Error:
            break  # it has just ended
        await asyncio.sleep(_LOOK_SECONDS)
    program.running.wait()
    seconds = time.perf_counter() - began
    postgres = cpu_seconds(server.pid) - before
    told = f"{lines:,} lines: {lines:,} imported, 0 known before, 0 wrong"
    async with Database(dsn) as database:
        differences = await check_counts(database)
        async with database.connection() as connection:
            stored = await connection.fetchval("SELECT count(*) FROM sessions")
            counted = await connection.fetchval("SELECT sum(sessions) FROM monthly_impact")
            query = f"SELECT {', '.join(COLUMNS)} FROM sessions"  # noqa: S608 - our own names
            await connection.copy_from_query(query, output=rows, format="binary")
    if not program.log.startswith(told) or (stored, counted) != (lines, lines) or differences:
        raise Unsound(f"{program.log}{stored} stored, {counted} counted; {differences}")
    return (
        f"import: {lines / seconds:,.0f} lines/s, {seconds:.1f} s; CPU µs a line: "
        f"{ours / lines * 1e6:.1f} ours, {postgres / lines * 1e6:.1f} PostgreSQL's; MiB resident: "
        f"{max(resident):.0f}, in the first tenth {max(resident[: len(resident) // 10 + 2]):.0f}"
    )


async def copy_rows(server: PostgresServer, rows: Path, lines: int) -> str:
    """The COPY's turn: what it took."""
    dsn = await _new_database(server, "copied")
    async with Database(dsn) as database, database.connection() as connection:
        for month in _MONTHS:
            await connection.fetchval("SELECT flusher.create_month($1)", month.first_day)
        before, began = cpu_seconds(server.pid), time.perf_counter()
        await connection.copy_to_table("sessions", source=rows, columns=COLUMNS, format="binary")
        seconds = time.perf_counter() - began
        postgres = cpu_seconds(server.pid) - before
        if await connection.fetchval("SELECT count(*) FROM sessions") != lines:
            raise Unsound("the COPY did not store each row")
    cost = f"CPU µs a row: {postgres / lines * 1e6:.1f} PostgreSQL's"
    return f"COPY: {lines / seconds:,.0f} rows/s, {seconds:.1f} s; {cost}"


async def _new_database(server: PostgresServer, name: str) -> str:
    connection = await asyncpg.connect(server.dsn("postgres"))
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    async with Database(server.dsn(name)) as database, database.connection() as connection:
        await migrate(connection, ZoneInfo("UTC"))
    return server.dsn(name)


async def run(lines: int, suffix: str) -> int:
    print(*(f"{name}: {value}" for name, value in describe().items()), sep="\n")
    with tempfile.TemporaryDirectory(prefix="bench-imports-") as name:
        file, rows = Path(name) / f"sessions{suffix}", Path(name) / "rows"
        write_file(file, lines)
        print(f"{lines:,} lines, {file.stat().st_size / 1e6:,.0f} MB", flush=True)
        with PostgresServer(Path(name) / "postgres", settings=_SETTINGS) as server:
            print(await import_file(server, file, lines, rows), flush=True)
            print(await copy_rows(server, rows, lines), flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.speed.imports", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--gz", action="store_true", help="the file is compressed")
    arguments = parser.parse_args()
    return run_command(run(arguments.lines, ".csv.gz" if arguments.gz else ".csv"))


if __name__ == "__main__":
    sys.exit(main())
