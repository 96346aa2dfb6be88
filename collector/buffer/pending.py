"""A pending record, and how long it may wait for Redis before its request is answered 503."""

from collections.abc import Callable
from dataclasses import dataclass

from contract.errors import Retry

WAIT_SECONDS = 5.0
RETRY_AFTER_SECONDS = 5

OnResult = Callable[[Retry | None], None]
"""Called with None if Redis has acknowledged the record, or with Retry. It must not raise."""


@dataclass(slots=True, eq=False)
class PendingRecord:
    """A record that Redis has not acknowledged yet, and the callback of its request."""

    record: bytes
    shard: int
    deadline: float  # in the loop's time
    on_result: OnResult
    is_over: bool = False  # its callback was called
    asking: bool = False  # its stream moves to another node, which must be asked for it (ASK)
