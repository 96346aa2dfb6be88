"""Checks PostgreSQL's settings that this project's promises depend on, its clock and calendar."""

from typing import Final
from zoneinfo import ZoneInfo

from flusher.postgres.database import Database
from flusher.postgres.statements import statement
from runtime.clock import Clock
from runtime.server_checks import Broken, clock_difference

_SERVER: Final = "DATABASE_URL"
_WHY_ON: Final = {
    "fsync": "a loss of power may then destroy the database",
    "synchronous_commit": "a crash may then lose rows whose stream entries are already deleted",
    "full_page_writes": "a loss of power may then destroy parts of the database",
}


async def examine_postgres(dsn: str, clock: Clock, zone: ZoneInfo) -> list[Broken]:
    """The settings that break a promise; `zone` is this process's CALENDAR_TIMEZONE.

    Raises:
        Retry: PostgreSQL does not answer.
        Misconfigured: it refuses the login, or is not migrated.
    """
    async with Database(dsn) as database, database.connection() as connection:
        rows = await connection.fetch(
            "SELECT name, setting FROM pg_settings WHERE name = ANY ($1)", list(_WHY_ON)
        )
        calendar = await connection.fetchval("SELECT timezone FROM flusher.state")
        asked_us = clock()
        server_us = await connection.fetchval(statement("server_clock"))
        answered_us = clock()
    broken = [
        Broken(_SERVER, name, setting, _WHY_ON[name], f"ALTER SYSTEM SET {name} = on, and reload")
        for name, setting in rows
        if setting == "off"
    ]
    if calendar != zone.key:
        why = f"it sets the days, and {zone.key} (CALENDAR_TIMEZONE of this process) the months"
        to_do = "give all processes the same CALENDAR_TIMEZONE, then python -m flusher migrate"
        broken.append(Broken(_SERVER, "calendar", calendar, why, to_do))
    difference = clock_difference(_SERVER, server_us, asked_us, answered_us)
    return [*broken, difference] if difference else broken
