"""Counts without sessions: what a report reads, months of it in a moment."""

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


def last_day(month: Month) -> date:
    return month.plus(1).first_day - timedelta(days=1)
