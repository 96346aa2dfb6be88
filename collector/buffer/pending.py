"""A record that waits for Redis, and how long it may wait before its request is answered 503."""

from collections.abc import Callable
from dataclasses import dataclass

from contract.errors import Retry

WAIT_SECONDS = 5.0
RETRY_AFTER_SECONDS = 5

OnResult = Callable[[Retry | None], None]
"""Called with a record's result: None, Redis has acknowledged it; or Retry. It must not raise."""


@dataclass(slots=True, eq=False)
class PendingRecord:
    """A record that is to be appended, and the callback of its request."""

    record: bytes
    shard: int
    deadline: float  # in the loop's time
    on_result: OnResult
    is_over: bool = False  # it was answered, or its request has ended
