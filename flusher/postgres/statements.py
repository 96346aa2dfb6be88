"""The SQL statements, each in a file of its own under `sql/`, by name."""

from functools import cache
from importlib.resources import files


@cache
def statement(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return files("flusher.postgres").joinpath("sql", f"{name}.sql").read_text()
