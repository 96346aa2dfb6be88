"""Settings of PostgreSQL that this project's promises rest upon, its clock and its calendar."""

from typing import Final
from zoneinfo import ZoneInfo

from contract.calendar import SECOND_US
from flusher.postgres.database import Database
from flusher.postgres.statements import statement
from runtime.clock import Clock
from runtime.server_checks import Broken, clock_difference

_SERVER: Final = "DATABASE_URL"
_KEPT: Final = {
    "fsync": "a loss of power may then destroy the database",
    "synchronous_commit": "a crash may then lose rows whose stream entries are gone already",
    "full_page_writes": "a loss of power may then destroy pages of the database",
}


async def examine_postgres(dsn: str, clock: Clock, zone: ZoneInfo) -> list[Broken]:
    """What of the server's settings breaks a promise; `zone`: whose calendar months count here.

    Raises:
        Retry: it does not answer.
        Misconfigured: it can't be logged in to.
    """
    async with Database(dsn) as database, database.connection() as connection:
        asked_us = clock()
        (row,) = await connection.fetch(statement("server_settings"))
        answered_us = clock()
        calendar = await connection.fetchval(statement("calendar_timezone"))
    broken = [
        Broken(_SERVER, name, row[name], why, f"ALTER SYSTEM SET {name} = on, and reload")
        for name, why in _KEPT.items()
        if row[name] == "off"
    ]
    if calendar != zone.key:
        why = f"days are counted by it, and months by {zone.key}: CALENDAR_TIMEZONE of this process"
        to_do = "give all processes the same CALENDAR_TIMEZONE, then python -m flusher migrate"
        broken.append(Broken(_SERVER, "calendar", str(calendar), why, to_do))
    difference = clock_difference(_SERVER, round(row["seconds"] * SECOND_US), asked_us, answered_us)
    return [*broken, difference] if difference else broken
