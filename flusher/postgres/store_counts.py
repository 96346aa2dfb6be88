"""Stores what a batch changes in the counts, in the transaction of the batch.

Why the counts are exact at each commit: docs/decisions/0006-kept-counts.md.
"""

from collections.abc import Iterable
from datetime import date

import asyncpg

from flusher.postgres.statements import statement
from flusher.rows.counts import Changes


async def store_counts(
    connection: asyncpg.Connection, by_month: Iterable[tuple[date, Changes]]
) -> None:
    """Adds changes (`Counts.by_month`). Called under `Lock.UPGRADES`, when the sessions are
    written.
    """
    for month, changes in by_month:
        await connection.execute(
            statement("count_changes"),
            month,
            changes.sites,
            changes.firsts,
            changes.lasts,
            # The text of an array takes a third of the time to make.
            f"{{{b''.join(changes.hashes).hex(',', -16)}}}",
            _array(changes.as_visitor),
            _array(changes.signed_in),
            changes.minutes_sites,
            _array(changes.minutes),
            _array(changes.minutes_as_visitor),
            _array(changes.minutes_signed_in),
        )


def _array(numbers: list[int]) -> str:
    return f"{{{str(numbers)[1:-1]}}}"
