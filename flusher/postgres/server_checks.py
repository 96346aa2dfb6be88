"""Checks PostgreSQL's settings that this project's promises depend on, its clock and calendar."""

from typing import Final
from zoneinfo import ZoneInfo

from contract.calendar import SECOND_US
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
        asked_us = clock()
        (row,) = await connection.fetch(statement("server_settings"))
        answered_us = clock()
    broken = [
        Broken(_SERVER, name, row[name], why, f"ALTER SYSTEM SET {name} = on, and reload")
        for name, why in _WHY_ON.items()
        if row[name] == "off"
    ]
    if row["calendar"] != zone.key:
        why = f"it sets the days, and {zone.key} (CALENDAR_TIMEZONE of this process) the months"
        to_do = "give all processes the same CALENDAR_TIMEZONE, then python -m flusher migrate"
        broken.append(Broken(_SERVER, "calendar", str(row["calendar"]), why, to_do))
    difference = clock_difference(_SERVER, round(row["seconds"] * SECOND_US), asked_us, answered_us)
    return [*broken, difference] if difference else broken
