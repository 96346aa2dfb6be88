"""A worker's settings, from the environment."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """
    Attributes:
        zone: whose calendar months count.
        max_rows: a batch is written when it has this many rows,
        max_seconds: or this long after its first entry was read.
        claim_seconds: entries that another consumer has held for longer are taken over.
    """

    zone: ZoneInfo
    max_rows: int
    max_seconds: float
    claim_seconds: float

    @property
    def patience_seconds(self) -> float:
        """The longest that a statement may take. So a flush ends well before another flusher takes
        over its entries.
        """
        return self.claim_seconds / 2
