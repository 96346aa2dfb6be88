"""Names in Redis, and which shard a session goes to.

The braces are hash tags of Redis Cluster. All keys of a shard share one slot, so that an entry
moves atomically between its stream and its dead letters. All keys of the salt also share one slot.
"""

from typing import Final
from zlib import crc32

from contract.calendar import Month

GROUP: Final = "flusher"
MOST_SHARDS: Final = 1024

CURRENT_SALT: Final = "impact:{salt}:current"
SALT_PATTERN: Final = "impact:{salt}:*"
# A stream: when each salt was made and why. The salt itself is not in it.
ROTATIONS: Final = "impact:rotations:{salt}"
# The last of its entries that was sent to the flusher.
ROTATIONS_ANNOUNCED: Final = "impact:announced:{salt}"
# Since when copies of a destroyed salt must be removed, and what the last disposal found.
DISPOSAL_DUE: Final = "impact:disposal_due:{salt}"
DISPOSAL_REPORT: Final = "impact:disposal:{salt}"
# The servers that have, or had, the salt in their files.
SALT_HOLDERS: Final = "impact:holders:{salt}"
# Filler that pushes older writes out of the replication backlog.
SCRUB: Final = "impact:scrub:{salt}"


def salt(month: Month) -> str:
    return f"impact:{{salt}}:{month}"


def stream(shard: int) -> str:
    return f"impact:sessions:{{{shard}}}"


def joined(shard: int) -> str:
    """How many more records than entries a shard's stream holds: entries may be shared."""
    return f"impact:joined:{{{shard}}}"


def probe(shard: int) -> str:
    """A collector writes this key to test whether a shard's server accepts writes. It expires."""
    return f"impact:probe:{{{shard}}}"


def dead_letters(shard: int) -> str:
    return f"impact:dead:{{{shard}}}"


def shard_of(identity: bytes, shards: int) -> int:
    """The shard for an id of 16 bytes: a session's, or the visitor hash of an upgrade of `current`.

    All of a session's entries go to one shard, so that they are usually read in order; nothing
    breaks if they are not.
    """
    return crc32(identity) % shards
