"""`python -m flusher report`: what was reached, month by month, and what is known to be amiss.

Reads the views, and nothing that they don't count. The numbers of an unfinished month are not
compared with those of a whole one.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg

from contract.calendar import Month, from_us, month_at
from contract.errors import Misconfigured, Retry
from flusher.postgres.database import Database
from flusher.postgres.statements import statement
from flusher.stream.dead_letters import DeadLetters

# A report does not wait longer for what it can do without.
_REDIS_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class MonthlyImpact:
    """One month. Shares and changes are ratios (0.25 is a quarter); None: there is none to tell.

    `people` of all sites is the sum over sites: who was on two sites is in it twice.
    """

    month: Month
    sessions: int
    people: int
    signed_in_sessions: int
    signed_in_people: int
    unfinished: bool = False
    sessions_change: float | None = None
    people_change: float | None = None
    remarks: tuple[str, ...] = ()

    @property
    def signed_in_share(self) -> float | None:
        """The share of sessions in which somebody was or got signed in."""
        return self.signed_in_sessions / self.sessions if self.sessions else None


@dataclass(frozen=True, slots=True)
class Report:
    """Months in order, the last one being the current month, and remarks about all of it."""

    site: str | None
    sites: int
    zone: str
    made_at: datetime
    months: list[MonthlyImpact]
    remarks: list[str] = field(default_factory=list)


async def read_report(
    database: Database,
    zone: ZoneInfo,
    now_us: int,
    site: str | None,
    months: int,
    dead_letters: DeadLetters | None = None,
) -> Report:
    """The last `months` months up to now, of one site or of all.

    `dead_letters` are asked how many there are; None: nobody knows where they would be.

    Raises:
        Misconfigured: there is no such site; or the database is not migrated.
        Retry: PostgreSQL is away.
    """
    current = month_at(now_us, zone)
    first = current.plus(1 - months)
    async with database.connection() as connection:
        if site is not None:
            await _check_site(connection, site)
        # One more, for the first one's change.
        rows = await connection.fetch(
            statement("impact_by_month"), first.plus(-1).first_day, current.first_day, site
        )
        salts = await connection.fetch(statement("salts_replaced"), first.first_day)
        given_up = await connection.fetch(statement("given_up_upgrades"), first.first_day, site)
        began = await connection.fetchval(statement("first_day"), site)
        waiting = await connection.fetchval(statement("count_waiting_upgrades"))
        sites = await connection.fetchval(statement("count_sites"), first.first_day)
    counts = {Month(row["month"].year, row["month"].month): row for row in rows}
    remarks_of = _remarks(salts, given_up)
    partial = None
    if began is not None and began.day > 2:
        # Measured from its middle on: it is no measure for the next one, either.
        partial = Month(began.year, began.month)
        said = f"counting began on {began}"
        remarks_of[partial] = (said, *remarks_of.get(partial, ()))
    result = []
    for number in range(months):
        month = first.plus(number)
        if began is not None and month.plus(1).first_day <= began:
            continue  # before the first session: nothing was measured
        result.append(_impact(month, counts, current, partial, remarks_of.get(month, ())))
    remarks = []
    if site is None and sites > 1:
        remarks.append(
            f"People are the sum over {sites} sites: somebody on two of them is counted on each."
        )
    if waiting:
        remarks.append(f"{waiting} sign-ins still wait for their session: those may yet change.")
    if dead_letters is not None:
        remarks += await _dead_letters_remark(dead_letters)
    return Report(site, sites, zone.key, from_us(now_us).astimezone(zone), result, remarks)


async def _check_site(connection: asyncpg.Connection, site: str) -> None:
    if await connection.fetchval(statement("site_is_known"), site):
        return
    example = await connection.fetchval(statement("some_site")) or "city.example.org"
    raise Misconfigured("--site", f"there are no sessions of {site!r}", f"--site {example}")


async def _dead_letters_remark(dead_letters: DeadLetters) -> list[str]:
    try:
        async with asyncio.timeout(_REDIS_SECONDS):
            count = await dead_letters.count()
    except (Retry, TimeoutError):
        return [
            "Redis did not answer: whether dead letters wait, which are in no number, is unknown."
        ]
    if not count:
        return []
    said = (
        f"{count} dead letters wait, of whatever site and month: sessions and sign-ins that are in "
        "no number until they are replayed (`python -m flusher dead list`)."
    )
    return [said]


def _impact(
    month: Month,
    counts: dict[Month, asyncpg.Record],
    current: Month,
    partial: Month | None,
    remarks: tuple[str, ...],
) -> MonthlyImpact:
    row, before = counts.get(month), counts.get(month.plus(-1))
    unfinished = month == current
    if row is None and not unfinished:
        remarks = ("no sessions were counted", *remarks)

    def change(name: str) -> float | None:
        if unfinished or month.plus(-1) == partial:
            return None
        if row is None or before is None or not before[name]:
            return None
        return float(row[name] / before[name]) - 1

    return MonthlyImpact(
        month,
        row["sessions"] if row else 0,
        row["people"] if row else 0,
        row["signed_in_sessions"] if row else 0,
        row["signed_in_people"] if row else 0,
        unfinished,
        change("sessions"),
        change("people"),
        remarks,
    )


def _remarks(
    salts: list[asyncpg.Record], given_up: list[asyncpg.Record]
) -> dict[Month, tuple[str, ...]]:
    """What is known to be amiss with a month's numbers."""
    remarks: dict[Month, tuple[str, ...]] = {}
    for salt in salts:
        month = Month(salt["month"].year, salt["month"].month)
        why = "was lost" if salt["outcome"] == "lost" else "was replaced"
        said = (
            f"its salt {why} on {salt['made_at']:%Y-%m-%d}: who came before and after counts twice"
        )
        remarks[month] = (*remarks.get(month, ()), said)
    for row in given_up:
        month = Month(row["month"].year, row["month"].month)
        said = f"{row['upgrades']} sign-ins are missing: the sessions that they were for never came"
        remarks[month] = (*remarks.get(month, ()), said)
    return remarks
