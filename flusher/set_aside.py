"""Makes an entry that can never become a row a dead letter: moves, counts and logs it."""

import structlog

from contract.flusher_metrics import FlusherMetrics
from flusher.rows.batch import Undecodable
from flusher.stream.read import StreamReader

log = structlog.get_logger()


async def set_aside(
    reader: StreamReader, metrics: FlusherMetrics, undecodable: Undecodable
) -> None:
    """Does nothing if another flusher has already acknowledged or moved the entry.

    Raises:
        Retry: Redis does not answer, or is full.
    """
    found, dropped = await reader.dead_letter(undecodable.entry, undecodable.why)
    if not found:
        return
    if dropped:
        metrics.dead_dropped.inc(dropped)
        log.error(
            "the oldest dead letters were dropped: there are too many",
            count=dropped,
            to_do="`python -m flusher dead list`; fix the cause, replay or drop them",
        )
    metrics.dead.labels(undecodable.why.reason).inc()
    log.error(
        "an entry was set aside as a dead letter",
        shard=undecodable.entry.shard,
        entry=undecodable.entry.id.decode(),
        reason=undecodable.why.reason,
        detail=str(undecodable.why),
        to_do="`python -m flusher dead list`; replay it once the cause is fixed",
    )
