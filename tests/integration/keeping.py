"""A keeper of months for which nothing waits in Redis."""

from flusher.postgres.database import Database
from flusher.postgres.months import DeadPlaces, MonthKeeper


async def nothing_waits() -> float:
    """The age of the oldest entry, in seconds."""
    return 0.0


def keeper_of(
    database: Database,
    keep: str = "instant",
    kept_months: int = 0,
    dead_places: DeadPlaces | None = None,
) -> MonthKeeper:
    return MonthKeeper(database, nothing_waits, kept_months, keep, dead_places)
