"""What a worker is told by the environment."""

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
