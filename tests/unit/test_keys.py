"""contract/keys.py: the names in Redis, on which dashboards and operators depend."""

from collections import Counter
from uuid import UUID

import pytest

from contract import keys
from contract.calendar import Month


def test_the_names_are_those_of_the_contract() -> None:
    assert keys.CURRENT_SALT == "impact:{salt}:current"
    assert keys.salt(Month(2026, 11)) == "impact:{salt}:2026-11"
    assert keys.salt(Month(2027, 1)) == "impact:{salt}:2027-01"
    assert (keys.stream(0), keys.stream(12)) == ("impact:sessions:{0}", "impact:sessions:{12}")
    assert keys.dead_letters(3) == "impact:dead:{3}"
    assert keys.GROUP == "flusher"


@pytest.mark.parametrize(
    ("identity", "shard"),
    [
        (bytes(16), 5),
        (bytes(range(16)), 0),
        (b"\xff" * 16, 2),
        (UUID("019a3f00-0000-7000-8000-000000000001").bytes, 0),
    ],
)
def test_an_identitys_shard_never_changes(identity: bytes, shard: int) -> None:
    """Collectors of two releases, or of two interpreters, must choose the same shard."""
    assert keys.shard_of(identity, 8) == shard


@pytest.mark.parametrize("shards", [2, 3, 8, 16])
def test_ids_that_are_made_in_order_spread_evenly(shards: int) -> None:
    """The first bytes of a UUIDv7 are the time: the choice must not depend on them."""
    milliseconds = 1_794_000_000_000
    ids = (
        (milliseconds + n // 10).to_bytes(6, "big") + (n * 0x9E3779B97F4A7C15 % 2**80).to_bytes(10)
        for n in range(8000)
    )
    counts = Counter(keys.shard_of(id_, shards) for id_ in ids)
    assert [counts[n] for n in range(shards)] == pytest.approx([8000 / shards] * shards, rel=0.25)
