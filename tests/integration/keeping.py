"""A keeper of months for which nothing waits in Redis, and sessions in any month."""

from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

from contract.calendar import DAY_US, SECOND_US, Month
from contract.record import SessionStarted
from flusher.postgres.database import Database
from flusher.postgres.months import DeadPlaces, MonthKeeper, OldestEntry
from tests.events import start
from tests.instant import NOON_US, UTC

A_SITE = "a.example.org"


async def nothing_waits() -> float:
    """The age of the oldest entry, in seconds."""
    return 0.0


async def none_dead() -> Mapping[tuple[Month, str], int]:
    """The number of dead letters of each month and site."""
    return {}


class Done(NamedTuple):
    """The months that one run has closed and dropped."""

    closed: tuple[date, ...] = ()
    dropped: tuple[date, ...] = ()


class Keeper(MonthKeeper):
    """One that does all of its work when it is asked to."""

    async def run_once(self) -> Done:
        await self.fold()
        return Done(await self.close(), await self.drop())


def keeper_of(
    database: Database,
    keep: str = "instant",
    kept_months: int = 0,
    dead_places: DeadPlaces = none_dead,
    oldest_entry: OldestEntry = nothing_waits,
) -> Keeper:
    return Keeper(database, oldest_entry, dead_places, kept_months, keep)


def visit(month: Month, person: int, site: str = A_SITE, role: str | None = None) -> SessionStarted:
    """A session of a person, on the tenth day of a month."""
    seconds = (month.starts_us(UTC) + 9 * DAY_US - NOON_US) / SECOND_US + person
    visitor = bytes([person]) * 16
    return start(visitor=visitor, site=site, month=month, seconds=seconds, role=role)
