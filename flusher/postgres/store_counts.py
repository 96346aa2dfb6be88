"""Step 3, last part: what a batch changes in the counts, in the transaction that changes it.

Why the counts are exact at each commit: docs/decisions/0006-kept-counts.md.
"""

from collections.abc import Collection
from datetime import date

import asyncpg

from flusher.postgres.statements import statement
from flusher.rows.counts import Counts


async def store_counts(
    connection: asyncpg.Connection, counts: Counts, open_months: Collection[date]
) -> None:
    """Adds changes to the counts of open months; those of closed ones are to be made again.

    The last thing that a transaction does, since what it changes may be waited for.
    """
    people = counts.people(open_months)
    minutes = counts.minutes(open_months)
    if people.months or minutes.months:
        gone = await connection.fetch(statement("count_changes"), *people, *minutes)
        if gone:
            columns = [list(column) for column in zip(*gone, strict=True)]
            await connection.execute(statement("forget_people"), *columns)
    if places := counts.places_beyond(open_months):
        months, sites = zip(*places, strict=True)
        await connection.execute(statement("want_recounts"), list(months), list(sites))
