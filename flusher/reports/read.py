"""Reads a report from the views, with only the rights of `impact_reader`."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TypeVar
from zoneinfo import ZoneInfo

import asyncpg

from contract.calendar import Month, from_us, month_at
from contract.errors import Misconfigured
from contract.site import site_name
from flusher.postgres.database import Database
from flusher.reports.report import Figures, make_report
from flusher.reports.report_lines import Counts, Quality, Report

T = TypeVar("T")


async def read_report(database: Database, now_us: int, site: str | None, months: int) -> Report:
    """The report of one site or all, for the last `months` months of the database's calendar.

    Raises:
        Misconfigured: there is no such site; or the database is not migrated.
        Retry: PostgreSQL is away.
    """
    site = site and (site_name(site) or site)
    # One snapshot, so that both views have the same months and sites.
    async with (
        database.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        counts = await connection.fetch(
            "SELECT * FROM monthly_impact WHERE $1::text IS NULL OR site = $1", site
        )
        # Dead letters that can't be decoded may be of any site.
        quality = await connection.fetch(
            "SELECT * FROM data_quality WHERE $1::text IS NULL OR site IN ($1, '(unknown)')", site
        )
        another = await connection.fetchval(
            "SELECT site FROM monthly_impact ORDER BY month DESC, sessions DESC LIMIT 1"
        )
    if site is not None and another is not None and not counts:
        problem = f"there are no sessions of {site!r}"
        raise Misconfigured("--site", problem, f"--site {another}")
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
