"""What a batch changes in the counts, stored in the transaction of the batch.

Why the counts are exact at each commit: docs/decisions/0006-kept-counts.md.
"""

import asyncpg

from flusher.postgres.statements import statement
from flusher.rows.counts import Counts


async def store_counts(connection: asyncpg.Connection, counts: Counts) -> None:
    """Adds changes to the counts, after the sessions are written and under `Lock.UPGRADES`."""
    for month, changes in counts.by_month():
        await connection.execute(statement("count_changes"), month, *changes)
