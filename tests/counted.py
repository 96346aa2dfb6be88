"""Counts without sessions: what a report reads, months of it in a moment."""

from collections import defaultdict
from collections.abc import Collection
from datetime import date, timedelta

import asyncpg

from contract.calendar import Month
from tests.events import SITE


async def count(
    connection: asyncpg.Connection,
    first: date,
    last: date,
    *,
    site: str = SITE,
    a_day: int = 20,
    people: int = 100,
    but: Collection[date] = (),
) -> None:
    """`a_day` sessions of a site on each day from `first` to `last`, but for those of `but`, a
    quarter of them signed in; and each month `people`, a fifth of them users.
    """
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    days = [day for day in days if day not in but]
    signed_in = a_day // 4
    rows = [
        (False, site, day.replace(day=1), day, a_day - signed_in, signed_in, 0, 0, 0)
        for day in days
    ]
    for month in sorted({day.replace(day=1) for day in days}):
        number = sum(day.replace(day=1) == month for day in days)
        sessions = (number * (a_day - signed_in), number * signed_in)
        rows.append((True, site, month, month, *sessions, people, people // 5, people * 4 // 5))
    # Before the counts: a month that is made later takes those that have no sessions back.
    for month in {day.replace(day=1) for day in days}:
        await connection.execute("SELECT flusher.create_month($1)", month)
    await connection.executemany(
        "INSERT INTO flusher.counts VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)", rows
    )


async def count_sign_ins(
    connection: asyncpg.Connection, month: date, site: str, pairs: int, users: int, visitors: int
) -> None:
    """What sign-ins of a month and site have shown."""
    await connection.executemany(
        "INSERT INTO flusher.quality_counts (month, site, kind, number) VALUES ($1, $2, $3, $4)",
        [
            (month, site, kind, number)
            for kind, number in (("pair", pairs), ("user", users), ("visitor", visitors))
        ],
    )


async def sign_in_counts(
    connection: asyncpg.Connection,
) -> dict[tuple[date, str], tuple[int, int, int]]:
    """By month and site, what sign-ins have shown: pairs, users, visitors."""
    rows = await connection.fetch(
        "SELECT month, site, kind, number FROM flusher.quality_counts "
        "WHERE kind IN ('pair', 'user', 'visitor')"
    )
    found: defaultdict[tuple[date, str], dict[str, int]] = defaultdict(dict)
    for month, site, kind, number in rows:
        found[month, site][kind] = number
    return {
        place: (counts["pair"], counts["user"], counts["visitor"])
        for place, counts in found.items()
    }


def last_day(month: Month) -> date:
    return month.plus(1).first_day - timedelta(days=1)
