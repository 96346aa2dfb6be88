"""Where a flusher's time goes while it drains a backlog: in PostgreSQL, and in its own Python.

Sampled, so that what is measured is not slowed down: PostgreSQL is asked what each of the flusher's
connections does, and py-spy looks at the flusher's stack from outside.
"""

import asyncio
import re
from collections import Counter
from contextlib import suppress
from typing import Final

import asyncpg

from bench.speed.backlog import make_backlog
from bench.speed.benchmark import Result, Run, Unsound
from bench.speed.flusher_rig import FULL_LOAD, SETTINGS_NOTE, Bench
from bench.speed.profiler import (
    IDLE,
    NOT_ALLOWED,
    OTHER,
    series_of,
    shares_of_stacks,
    start_profiler,
    stop_profiler,
)

_SESSIONS: Final = 400_000
_LOOK_SECONDS: Final = 0.01
_LOOK: Final = """
    SELECT query, state, wait_event_type FROM pg_stat_activity
    WHERE application_name LIKE '%flusher' AND pid <> pg_backend_pid()
"""
# The statements' first words, and what they are called here.
_STATEMENTS: Final = (
    (r'COPY "sessions"', "COPY of the sessions"),
    (r"-- Stores new upgrades", "upgrades stored and matched (match_upgrades.sql)"),
    (r"-- What a batch may", "upgrades at hand (upgrades_at_hand.sql)"),
    (r"-- Adds the changes of a month", "the counts (count_changes.sql)"),
    (r"-- Moves the changes to the counts", "changes added up (fold_counts.sql)"),
    (r"COMMIT", "commit"),
)
_MODULES: Final = (
    ("Batch.add", "entries into rows and upgrades (batch.py)"),
    ("StreamReader.read", "reading from Redis (read.py)"),
    ("StreamReader.acknowledge", "acknowledging (read.py)"),
    ("SessionWriter._copy", "COPY: making and sending (write.py)"),
    ("Counts", "the counts: adding up (counts.py)"),
    ("store_counts", "the counts: encoding and asking (store_counts.py)"),
    ("Matching.run", "upgrades: encoding and asking (match.py)"),
)


async def measure(run: Run) -> Result:
    """Rounds of one drained backlog each, watched.

    Raises:
        Unsound: the rows are not all there.
    """
    run.say("making events")
    backlog = make_backlog(_SESSIONS, seed=1)
    in_postgres: list[Counter[str]] = []
    in_python: list[Counter[str]] = []
    async with Bench(run.folder) as bench:
        await bench.drain(backlog, FULL_LOAD)  # its plans are made, and the files are there
        await bench.empty()
        for number in range(1, run.rounds + 1):
            run.say(f"round {number} of {run.rounds}")
            stacks = run.folder / f"stacks-{number}.txt"
            profiler = await start_profiler(bench.flusher_pid, stacks)
            drained = asyncio.Event()
            watching = asyncio.create_task(_watch_postgres(bench.dsn, drained))
            await bench.drain(backlog, FULL_LOAD)
            drained.set()
            in_postgres.append(await watching)
            if profiler is not None:
                await stop_profiler(profiler)
                in_python.append(shares_of_stacks(stacks.read_text(), _MODULES))
            rows, _, _ = await bench.digest([backlog])
            if rows != len(backlog.rows):
                raise Unsound(f"{rows} rows, of {len(backlog.rows)}")
            await bench.empty()
    return _result(in_postgres, in_python)


async def _watch_postgres(dsn: str, drained: asyncio.Event) -> Counter[str]:
    """In how many hundredths of the time a connection of the flusher did what."""
    seen: Counter[str] = Counter()
    looks = 0
    connection = await asyncpg.connect(dsn)
    while not drained.is_set():
        looks += 1
        for row in await connection.fetch(_LOOK):
            seen[_doing(row)] += 1
        with suppress(TimeoutError):
            await asyncio.wait_for(drained.wait(), _LOOK_SECONDS)
    await connection.close()
    return Counter({what: round(100 * count / looks) for what, count in seen.items()})


def _doing(row: asyncpg.Record) -> str:
    if row["state"] == "idle in transaction":
        return "waits for the flusher, in a transaction"
    if row["state"] != "active":
        return IDLE
    if row["wait_event_type"] == "Lock":
        return "waits for another's lock"
    for pattern, what in _STATEMENTS:
        if re.match(pattern, row["query"].lstrip()):
            return what
    return OTHER


def _result(in_postgres: list[Counter[str]], in_python: list[Counter[str]]) -> Result:
    series = [
        *series_of(
            in_postgres, "PostgreSQL, % of the time that a connection of the flusher does it"
        ),
        *series_of(in_python, "the flusher's Python, % of the samples in which it is at work"),
    ]
    notes = [
        (
            f"A backlog of {_SESSIONS:,} sessions, a tenth of them upgraded, as "
            "`python -m bench flusher` drains it. The flusher has three connections, so that "
            "PostgreSQL's may add up to 300; on two cores, with Valkey and the flusher itself, "
            "not all that is shown as at work has a core."
        ),
        SETTINGS_NOTE,
    ]
    if not in_python:
        notes.append(NOT_ALLOWED)
    return Result("profile", "Where a flusher's time goes", tuple(series), (), tuple(notes))
