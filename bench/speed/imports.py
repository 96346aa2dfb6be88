"""The import of a large file, and a bare COPY of the rows that it made.

Each goes into a new database of one server. The COPY has the rows in PostgreSQL's binary format: it
does not read, check or count them.
"""

import asyncio
import hashlib
import os
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg

from bench.speed.benchmark import Measurements, Result, Run, Unsound
from bench.speed.machine import cpu_seconds
from contract.calendar import Month
from embedded.postgres import PostgresServer
from embedded.system import Program
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database
from flusher.postgres.migrate import migrate
from flusher.rows.copy_format import COLUMNS

_SETTINGS: Final = {"shared_buffers": "2GB", "max_wal_size": "8GB", "checkpoint_timeout": "1h"}
_MONTHS: Final = [Month(2022, 1).plus(months) for months in range(36)]

Quantities = dict[str, float]


async def measure(run: Run) -> Result:
    """Rounds of a turn each: the import, the COPY."""
    file, rows = run.folder / "sessions.csv", run.folder / "rows"
    run.say("writing the file")
    _write_file(file, run.size)
    measured = Measurements()
    with PostgresServer(run.folder / "postgres", settings=_SETTINGS) as server:
        for number in range(1, run.rounds + 1):
            run.say(f"round {number} of {run.rounds}: import")
            ours = await _import_file(server, f"imported_{number}", file, run.size, rows)
            measured.add("ours", ours)
            run.say(f"round {number} of {run.rounds}: COPY")
            measured.add("COPY", await _copy_rows(server, f"copied_{number}", rows, run.size))
    return Result(
        "Import of a large file",
        measured.series(),
        (),
        (
            f"{run.size:,} lines of three years, {file.stat().st_size / 1e6:,.0f} MB.",
            "Each month two sessions a person, a tenth of the sessions signed in.",
            "Each line was a row, and the counts were those of the rows.",
            "**ours**: `python -m flusher import`.",
            "**COPY**: the rows that it made, in PostgreSQL's binary format.",
        ),
    )


def _write_file(file: Path, lines: int) -> None:
    """Sessions of three years in order, two a person and month, a tenth of them signed in."""
    draw, step = random.Random(5), timedelta(days=3 * 365) / lines
    people, month = [""], 0
    with file.open("w") as text:
        text.write("id,monthly_user_hash,highest_role,created_at\n")
        for number in range(lines):
            at = datetime(2022, 1, 1, tzinfo=UTC) + number * step
            if month != at.month:
                month = at.month
                names = (f"{at:%Y-%m} {person}".encode() for person in range(lines // 72 + 1))
                people = [hashlib.sha256(name).hexdigest() for name in names]
            role = "user" if draw.random() < 0.1 else ""
            text.write(f"{number},{draw.choice(people)},{role},{at:%Y-%m-%d %H:%M:%S.%f}\n")


async def _import_file(
    server: PostgresServer, name: str, file: Path, lines: int, rows: Path
) -> Quantities:
    """The command's turn. It writes what was stored to `rows`."""
    dsn = await _new_database(server, name)
    arguments = ("import", "--site=city.example.org", str(file))
    before, began = cpu_seconds(server.pid), time.perf_counter()
    program = Program("flusher", {"DATABASE_URL": dsn}, rows.with_suffix(".log"), arguments).start()
    _, _, used = await asyncio.to_thread(os.wait4, program.running.pid, 0)
    seconds = time.perf_counter() - began
    postgres = cpu_seconds(server.pid) - before
    async with Database(dsn) as database, database.connection() as connection:
        differences = await check_counts(database)
        stored = await connection.fetchval("SELECT count(*) FROM sessions")
        counted = await connection.fetchval("SELECT sum(sessions) FROM monthly_impact")
        query = f"SELECT {', '.join(COLUMNS)} FROM sessions"  # noqa: S608 - our own names
        await connection.copy_from_query(query, output=rows, format="binary")
    said = f"{lines:,} lines: {lines:,} imported, 0 known before, 0 wrong"
    if said not in program.log or (stored, counted) != (lines, lines) or differences:
        raise Unsound(f"{program.log}{stored} stored, {counted} counted; {differences}")
    return {
        "lines/s": lines / seconds,
        "CPU µs a line": (used.ru_utime + used.ru_stime) / lines * 1e6,
        "PostgreSQL's CPU µs a line": postgres / lines * 1e6,
        "MiB resident, at most": used.ru_maxrss / 1024,
    }


async def _copy_rows(server: PostgresServer, name: str, rows: Path, lines: int) -> Quantities:
    """The COPY's turn."""
    dsn = await _new_database(server, name)
    async with Database(dsn) as database, database.connection() as connection:
        for month in _MONTHS:
            await connection.fetchval("SELECT flusher.create_month($1)", month.first_day)
        before, began = cpu_seconds(server.pid), time.perf_counter()
        await connection.copy_to_table("sessions", source=rows, columns=COLUMNS, format="binary")
        seconds = time.perf_counter() - began
        postgres = cpu_seconds(server.pid) - before
        if await connection.fetchval("SELECT count(*) FROM sessions") != lines:
            raise Unsound("the COPY did not store each row")
    return {"lines/s": lines / seconds, "PostgreSQL's CPU µs a line": postgres / lines * 1e6}


async def _new_database(server: PostgresServer, name: str) -> str:
    connection = await asyncpg.connect(server.dsn("postgres"))
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    async with Database(server.dsn(name)) as database, database.connection() as connection:
        await migrate(connection, ZoneInfo("UTC"))
    return server.dsn(name)
