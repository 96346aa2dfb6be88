"""A worker's settings, from the environment."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """
    Attributes:
        zone: whose calendar months count.
        max_rows: a batch closes at so many,
        max_seconds: or when its first entry is so old.
        claim_seconds: what another consumer has held for so long is taken over.
    """

    zone: ZoneInfo
    max_rows: int
    max_seconds: float
    claim_seconds: float

    @property
    def patience_seconds(self) -> float:
        """The longest that a statement takes. A flush ends, one way or the other, well before
        another flusher takes its entries over.
        """
        return self.claim_seconds / 2
