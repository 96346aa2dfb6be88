"""Creates and upgrades the database: the numbered files of `schema/`, each once, in order.

Own code where libraries exist: they bring a second PostgreSQL driver into production, for what is
a table, a lock and a loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from zoneinfo import ZoneInfo

import asyncpg

from contract.errors import Misconfigured
from flusher.statements import statement

_LOCK = "SELECT pg_advisory_lock(hashtextextended('impact-tracking migrate', 0))"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema, named by its file without `.sql`."""

    name: str
    sql: str


def migrations() -> list[Migration]:
    """All of them, in order."""
    folder = files("flusher").joinpath("schema")
    found = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return [
        Migration(file.name.removesuffix(".sql"), file.read_text())
        for file in sorted(found, key=lambda file: file.name)
    ]


async def migrate(connection: asyncpg.Connection, zone: ZoneInfo) -> list[str]:
    """Brings the database up to date; safe to repeat, and to run from several places at once.

    Args:
        connection: a role that may create schemas and roles.
        zone: whose calendar days the views show.

    Returns:
        The names of the migrations that were applied now.

    Raises:
        Misconfigured: the role may not do what it takes.
    """
    await connection.execute(_LOCK)  # until the connection closes
    try:
        now = await apply_files(connection, migrations())
        async with connection.transaction():
            await connection.execute(statement("lock_sessions"))
            await connection.execute(statement("set_calendar"), zone.key)
        await connection.execute(files("flusher").joinpath("roles.sql").read_text())
    except asyncpg.InsufficientPrivilegeError as error:
        problem = (
            f"its role may not migrate: {error}; it needs CREATE on the database and CREATEROLE, "
            "or somebody who has runs `CREATE ROLE impact_reader NOLOGIN` first"
        )
        raise Misconfigured(
            "DATABASE_URL", problem, "DATABASE_URL=postgresql://owner@localhost/impact"
        ) from None
    return now


async def apply_files(connection: asyncpg.Connection, found: Sequence[Migration]) -> list[str]:
    """Applies those that were not applied before, each in a transaction; their names."""
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS impact_migrations "
        "(name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    applied = {row["name"] for row in await connection.fetch("SELECT name FROM impact_migrations")}
    now = [migration for migration in found if migration.name not in applied]
    for migration in now:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO impact_migrations (name) VALUES ($1)", migration.name
            )
    return [migration.name for migration in now]
