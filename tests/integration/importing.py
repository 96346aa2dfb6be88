"""What the tests of imports share."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from contract.calendar import Month
from flusher.imports.csv_line import read_layout
from flusher.imports.earlier_sessions import EarlierSessions, Importable
from flusher.imports.file_lines import FileLines
from flusher.imports.line_batches import LineBatch, line_batches
from tests.instant import UTC
from tests.system import ROOT, run_command

HEAD: Final = "id,monthly_user_hash,highest_role,created_at\n"
SITE: Final = "city.example.org"
OF_SITE: Final = f"--site={SITE}"
RULES: Final = Importable(SITE, UTC, Month(2024, 12), frozenset(), frozenset(("user", "admin")))


async def run_import(dsn: str, *arguments: object, **environment: str) -> tuple[int, str, str]:
    """Its exit code, standard output and standard error."""
    words = map(str, arguments)
    return await run_command("flusher", "import", *words, DATABASE_URL=dsn, **environment)


async def start_import(dsn: str, *arguments: object) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flusher", "import", *map(str, arguments)),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": dsn},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )


def batch_of_lines(
    lines: Iterable[str], run: bytes = b"import", rules: Importable = RULES
) -> LineBatch:
    """A batch of lines as they follow `HEAD`."""
    layout = read_layout(HEAD.rstrip("\n"))
    (batch,) = line_batches(lines, layout, EarlierSessions(rules, run))
    return batch


def batches_of_file(
    file: Path, run: bytes = b"import", separator: str | None = None
) -> Iterator[LineBatch]:
    """All batches of a file. Raises ValueError where its first line can't be read."""
    lines = FileLines(str(file)).lines()
    layout = read_layout(next(lines), separator)
    return line_batches(lines, layout, EarlierSessions(RULES, run))
