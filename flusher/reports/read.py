"""`python -m flusher report`: reads the views, and nothing that analysts may not read."""

from collections import defaultdict
from datetime import date
from zoneinfo import ZoneInfo

import asyncpg

from contract.calendar import Month, from_us, month_at
from contract.errors import Misconfigured
from flusher.postgres.database import Database
from flusher.postgres.statements import statement
from flusher.reports.report import Figures, make_report
from flusher.reports.report_lines import Counts, Quality, Report


async def read_report(database: Database, now_us: int, site: str | None, months: int) -> Report:
    """The last `months` months up to now, of one site or of all, by the database's calendar.

    Raises:
        Misconfigured: there is no such site; or the database is not migrated.
        Retry: PostgreSQL is away.
    """
    # Seen at one moment, so that both views speak of the same months and sites.
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
    if not counts:
        return make_report(None, site, months, "UTC", from_us(now_us))
    zone = ZoneInfo(quality[0]["timezone"])
    figures = Figures(_counts(counts), _quality(quality), month_at(now_us, zone))
    return make_report(figures, site, months, zone.key, from_us(now_us).astimezone(zone))


def site_name(text: str) -> str:
    """A site as the table has it, however it was typed: in lower case, without a final dot."""
    return text.strip().lower().removesuffix(".")


def _counts(rows: list[asyncpg.Record]) -> dict[Month, dict[str, Counts]]:
    found: defaultdict[Month, dict[str, Counts]] = defaultdict(dict)
    for row in rows:
        found[_month(row["month"])][row["site"]] = Counts(
            row["sessions"],
            row["unique_users"],
            row["unique_visitors"],
            row["signed_in_sessions"],
            row["unique_signed_in_users"],
            max(row["unique_visitors"], row["unique_signed_in_users"]),
        )
    return found


def _quality(rows: list[asyncpg.Record]) -> dict[Month, dict[str, Quality]]:
    found: defaultdict[Month, dict[str, Quality]] = defaultdict(dict)
    for row in rows:
        found[_month(row["month"])][row["site"]] = Quality(
            **{name: row[name] for name in Quality.__dataclass_fields__}
        )
    return found


def _month(first_day: date) -> Month:
    return Month(first_day.year, first_day.month)
