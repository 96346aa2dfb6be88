"""Creates and upgrades the database, in one transaction: runs each numbered file of `schema/` once,
in order, and `roles.sql` (roles, rights and settings) each time.

Why this is not a library: docs/decisions/0004-migrations.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg

from contract.errors import Misconfigured, Retry
from contract.settings import CALENDAR_TIMEZONE
from flusher.postgres import locks
from flusher.postgres.check import add_missing_counts
from flusher.postgres.database import SEARCH_PATH
from flusher.postgres.locks import Lock
from flusher.postgres.statements import statement

_EXAMPLE: Final = "DATABASE_URL=postgresql://impact_owner@localhost/impact"
# How long to wait for the locks of another `migrate`, or of readers of a table that changes.
_PATIENCE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema, named by its file without `.sql`."""

    name: str
    sql: str


def migrations() -> list[Migration]:
    """All of them, in order."""
    folder = files("flusher.postgres").joinpath("schema")
    found = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return [
        Migration(file.name.removesuffix(".sql"), file.read_text())
        for file in sorted(found, key=lambda file: file.name)
    ]


async def migrate(
    connection: asyncpg.Connection,
    zone: ZoneInfo,
    tell: Callable[[str], None] = lambda _: None,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> list[str]:
    """Brings the database up to date; safe to repeat, and to run from several places at once.

    Args:
        connection: a role with the rights that docs/operations.md names.
        zone: whose calendar days the views show.
        tell: called with each line for the operator: what to do, or what is waited for.
        patience_seconds: how long to wait for a lock.

    Returns:
        The names of the migrations that were applied now.

    Raises:
        Misconfigured: the role lacks a right; or the server does not know the zone.
        Retry: another connection has held a lock for too long.
    """

    def tell_warning(_: object, message: asyncpg.PostgresLogMessage) -> None:
        if message.severity_en == "WARNING":
            tell(message.message)

    connection.add_log_listener(tell_warning)
    try:
        async with connection.transaction():
            return await _migrate(connection, zone, tell, patience_seconds)
    except asyncpg.InsufficientPrivilegeError as error:
        words, *_ = str(error).splitlines()
        problem = (
            f"its role may not migrate: {words}; the role must own what an earlier `migrate` made, "
            "and needs CREATE on the database and on its schema public, and CREATEROLE, unless "
            "another role runs `CREATE ROLE impact_reader NOLOGIN` first"
        )
        raise Misconfigured("DATABASE_URL", problem, _EXAMPLE) from None
    except asyncpg.InvalidSchemaNameError as error:
        problem = f"{error}; run `CREATE SCHEMA public` there"
        raise Misconfigured("DATABASE_URL", problem, _EXAMPLE) from None
    except asyncpg.LockNotAvailableError:
        detail = (
            f"another connection has held a lock that `migrate` needs for {patience_seconds:g} s: "
            "another `migrate`, a backup or a long query (see pg_stat_activity); nothing was "
            "changed; run it again when that has ended"
        )
        raise Retry("postgres", detail) from None
    finally:
        connection.remove_log_listener(tell_warning)


async def _migrate(
    connection: asyncpg.Connection,
    zone: ZoneInfo,
    tell: Callable[[str], None],
    patience_seconds: float,
) -> list[str]:
    for name, value in (
        ("search_path", SEARCH_PATH),
        ("lock_timeout", f"{patience_seconds * 1000:.0f}"),
    ):
        await connection.execute("SELECT set_config($1, $2, true)", name, value)
    await _check_zone(connection, zone)
    if not await locks.try_to_take(connection, Lock.MIGRATE):
        tell(f"another `migrate` is at work: waiting for it, at most {patience_seconds:g} s")
        await locks.take(connection, Lock.MIGRATE)
    now = await apply_files(connection, migrations())
    await connection.execute(_file("roles.sql"))
    await locks.take(connection, Lock.SESSIONS)
    set_zone = "UPDATE flusher.state SET timezone = $1 WHERE timezone <> $1 RETURNING true"
    if await connection.fetchval(set_zone, zone.key):
        for row in await connection.fetch(statement("months")):
            if not row["is_dropped"]:
                await add_missing_counts(connection, row["month"])
    return now


async def apply_files(connection: asyncpg.Connection, found: Sequence[Migration]) -> list[str]:
    """Applies the migrations that were not applied before; returns their names."""
    await connection.execute(_file("migrations_table.sql"))
    rows = await connection.fetch("SELECT name FROM flusher.impact_migrations")
    applied = {row["name"] for row in rows}
    now = [migration for migration in found if migration.name not in applied]
    for migration in now:
        await connection.execute(migration.sql)
        note = "INSERT INTO flusher.impact_migrations (name) VALUES ($1)"
        await connection.execute(note, migration.name)
    return [migration.name for migration in now]


def _file(name: str) -> str:
    return files("flusher.postgres").joinpath(name).read_text()


async def _check_zone(connection: asyncpg.Connection, zone: ZoneInfo) -> None:
    try:
        await connection.execute("SELECT timestamptz 'epoch' AT TIME ZONE $1::text", zone.key)
    except asyncpg.InvalidParameterValueError:
        problem = f"PostgreSQL does not know {zone.key!r}; perhaps it knows another name"
        example = f"{CALENDAR_TIMEZONE.name}=America/New_York instead of US/Eastern"
        raise Misconfigured(CALENDAR_TIMEZONE.name, problem, example) from None
