"""One entry of a stream."""

from typing import NamedTuple


class Entry(NamedTuple):
    """`id` is Redis's. `record` is what the collector appended: one record or several."""

    shard: int
    id: bytes
    record: bytes
