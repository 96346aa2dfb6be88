"""The SQL statements, by the names of their files in `sql/`.

Those that write a batch are worded so that PostgreSQL finds rows only by key:
docs/decisions/0006-kept-counts.md, "Query plans".
"""

from functools import cache
from importlib.resources import files


@cache
def statement(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return files("flusher.postgres").joinpath("sql", f"{name}.sql").read_text()
