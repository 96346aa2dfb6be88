"""Reads a report from the views, with only the rights of `impact_reader`."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TypeVar
from zoneinfo import ZoneInfo

import asyncpg

from contract.calendar import Month, from_us, month_at
from contract.errors import Misconfigured
from flusher.postgres.database import Database
from flusher.postgres.statements import statement
from flusher.reports.report import Figures, make_report
from flusher.reports.report_lines import Counts, Quality, Report

T = TypeVar("T")


async def read_report(database: Database, now_us: int, site: str | None, months: int) -> Report:
    """The report of one site or all, for the last `months` months of the database's calendar.

    Raises:
        Misconfigured: there is no such site; or the database is not migrated.
        Retry: PostgreSQL is away.
    """
    site = site and site.strip().lower().removesuffix(".")
    # One snapshot, so that both views have the same months and sites.
    async with (
        database.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        some_site = await connection.fetchval(statement("some_site"), site)
        counts = await connection.fetch(statement("report_counts"), site)
        quality = await connection.fetch(statement("report_quality"), site)
    if some_site is not None and site not in (None, some_site):
        problem = f"there are no sessions of {site!r}"
        raise Misconfigured("--site", problem, f"--site {some_site}")
    made_at = from_us(now_us)
    if not counts:
        return Report(site, 0, "UTC", made_at, [])
    zone = ZoneInfo(quality[0]["timezone"])
    figures = Figures(
        _by_month_and_site(counts, _counts),
        _by_month_and_site(quality, _quality),
        month_at(now_us, zone),
    )
    return make_report(figures, site, months, zone.key, made_at.astimezone(zone))


def _by_month_and_site(
    rows: Iterable[asyncpg.Record], make: Callable[[asyncpg.Record], T]
) -> dict[Month, dict[str, T]]:
    found: defaultdict[Month, dict[str, T]] = defaultdict(dict)
    for row in rows:
        found[Month(row["month"].year, row["month"].month)][row["site"]] = make(row)
    return found


def _counts(row: asyncpg.Record) -> Counts:
    return Counts(
        row["sessions"],
        row["unique_users"],
        row["unique_visitors"],
        row["signed_in_sessions"],
        row["unique_signed_in_users"],
        max(row["unique_visitors"], row["unique_signed_in_users"]),
    )


def _quality(row: asyncpg.Record) -> Quality:
    return Quality(**{name: row[name] for name in Quality.__dataclass_fields__})
