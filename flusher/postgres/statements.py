"""The SQL statements, each in a file of its own under `sql/`, by name.

Those that write a batch find rows by key alone, whatever the statistics say, and are worded for
that: docs/decisions/0006-kept-counts.md, "Query plans".
"""

from functools import cache
from importlib.resources import files


@cache
def statement(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return files("flusher.postgres").joinpath("sql", f"{name}.sql").read_text()
