"""The import of a large file, and a bare COPY of the rows that it made.

Each has a new server. The COPY has the rows in PostgreSQL's binary format: it does not read, check
or count them.
"""

import asyncio
import hashlib
import os
import random
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from bench.speed.benchmark import Measurements, Result, Run, Unsound
from bench.speed.machine import cpu_seconds
from bench.speed.ours import Ours, start_ours
from contract.calendar import Month
from embedded.system import Program
from flusher.rows.copy_format import COLUMNS

_SETTINGS: Final = {"shared_buffers": "2GB", "max_wal_size": "8GB", "checkpoint_timeout": "1h"}
_MONTHS: Final = [Month(2022, 1).plus(months) for months in range(36)]

_OURS, _COPY = "ours", "COPY"
_RATE, _POSTGRES_CPU = "lines/s", "PostgreSQL's CPU µs a line"


async def measure(run: Run) -> Result:
    """Rounds of a turn each: the import, the COPY."""
    file, rows = run.folder / "sessions.csv", run.folder / "rows"
    run.say("writing the file")
    _write_file(file, run.size)
    measured = Measurements()
    for number, name in run.turns((_OURS, _COPY)):
        folder = run.folder / f"{name}-{number}"
        async with AsyncExitStack() as stack:
            ours = await start_ours(folder, stack, {}, postgres_settings=_SETTINGS)
            if name == _OURS:
                measured.add(name, await _import_file(ours, file, run.size, rows))
            else:
                measured.add(name, await _copy_rows(ours, rows, run.size))
    return Result(
        "Import of a large file",
        measured,
        (),
        (
            f"{run.size:,} lines of three years, {file.stat().st_size / 1e6:,.0f} MB.",
            "Each month two sessions a person, a tenth of the sessions signed in.",
            "Each line was a row, and the counts were those of the rows.",
            f"**{_OURS}**: `python -m flusher import`.",
            f"**{_COPY}**: the rows that it made, in PostgreSQL's binary format.",
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


async def _import_file(ours: Ours, file: Path, lines: int, rows: Path) -> dict[str, float]:
    """The command's turn. It writes what was stored to `rows`."""
    arguments = ("import", "--site=city.example.org", str(file))
    log = ours.system.folder / "import.log"
    before, began = cpu_seconds(ours.postgres.pid), time.perf_counter()
    program = Program("flusher", ours.system.environment, log, arguments).start()
    _, _, used = await asyncio.to_thread(os.wait4, program.running.pid, 0)
    seconds = time.perf_counter() - began
    postgres = cpu_seconds(ours.postgres.pid) - before
    await ours.check_kept_counts()
    stored = await ours.database.fetchval("SELECT count(*) FROM sessions")
    counted = await ours.database.fetchval("SELECT sum(sessions) FROM monthly_impact")
    said = f"{lines:,} lines: {lines:,} imported, 0 known before, 0 wrong"
    if said not in program.log or (stored, counted) != (lines, lines):
        raise Unsound(f"{program.log}{stored} stored, {counted} counted")
    query = f"SELECT {', '.join(COLUMNS)} FROM sessions"  # noqa: S608 - our own names
    await ours.database.copy_from_query(query, output=rows, format="binary")
    return {
        _RATE: lines / seconds,
        "CPU µs a line": (used.ru_utime + used.ru_stime) / lines * 1e6,
        _POSTGRES_CPU: postgres / lines * 1e6,
        "MiB resident, at most": used.ru_maxrss / 1024,
    }


async def _copy_rows(ours: Ours, rows: Path, lines: int) -> dict[str, float]:
    """The COPY's turn."""
    for month in _MONTHS:
        await ours.database.fetchval("SELECT flusher.create_month($1)", month.first_day)
    before, began = cpu_seconds(ours.postgres.pid), time.perf_counter()
    await ours.database.copy_to_table("sessions", source=rows, columns=COLUMNS, format="binary")
    seconds = time.perf_counter() - began
    postgres = cpu_seconds(ours.postgres.pid) - before
    if await ours.database.fetchval("SELECT count(*) FROM sessions") != lines:
        raise Unsound("the COPY did not store each row")
    return {_RATE: lines / seconds, _POSTGRES_CPU: postgres / lines * 1e6}
