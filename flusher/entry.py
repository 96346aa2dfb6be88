"""One entry of a stream."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """`id` is Redis's, `record` what the collector appended."""

    shard: int
    id: bytes
    record: bytes
