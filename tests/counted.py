"""The counts of sign-ins, as tests write and read them."""

from datetime import date

import asyncpg


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
        "SELECT month, site, array_agg(number ORDER BY kind) FROM flusher.quality_counts "
        "WHERE kind IN ('pair', 'user', 'visitor') GROUP BY month, site"
    )
    return {
        (month, site): (pairs, users, visitors) for month, site, (pairs, users, visitors) in rows
    }
