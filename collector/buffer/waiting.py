"""A request that waits for Redis, and how long it may before it is answered 503."""

from collections.abc import Callable
from dataclasses import dataclass

from contract.errors import Retry

WAIT_SECONDS = 5.0
RETRY_AFTER_SECONDS = 5

Answered = Callable[[Retry | None], None]
"""Takes what became of a record: None, the server has acknowledged it. It must not raise."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A record that is to be appended."""

    record: bytes
    shard: int
    deadline: float  # in the loop's time
    answered: Answered
    is_over: bool = False  # it was answered, or nobody waits for it any more
