"""bench/accuracy: months whose right count is known without a simulation."""

from dataclasses import replace

import pytest

from bench.accuracy.month import Outcome, World, simulate
from bench.load.people import UserAgents

BROWSERS = UserAgents(
    ("Chrome/1 Mobile", "Version/1 Mobile", "Chrome/1", "Firefox/1"), (5, 3, 5, 1)
)
# Nobody shares, nobody moves, nothing changes: each person is one hash.
SIMPLE = World(
    people=300,
    both=0.0,
    share_a_home=0.0,
    in_offices=0.0,
    away=0.0,
    daily=0.0,
    changing=0.0,
    new_browser=0.0,
    new_system=0.0,
)


def test_where_nothing_changes_and_nobody_shares_the_count_is_exact() -> None:
    for ipv6 in (0.0, 0.5, 1.0):
        assert simulate(replace(SIMPLE, ipv6=ipv6), BROWSERS, 1) == Outcome(1.0, 1.0, 1.0)


def test_counting_by_64_bits_keeps_a_device_with_ipv6_one() -> None:
    """The lower half of its address changes each day."""
    world = replace(SIMPLE, ipv6=1.0, visits=5.0)
    assert simulate(world, BROWSERS, 1).counted == 1
    assert simulate(replace(world, whole_ipv6=True), BROWSERS, 1).counted > 2


@pytest.mark.parametrize(
    ("world", "least", "most"),
    [
        # What changes makes one person several.
        (replace(SIMPLE, daily=1.0), 1.05, 99),
        (replace(SIMPLE, new_browser=1.0, new_system=1.0), 1.05, 99),
        (replace(SIMPLE, both=0.5), 1.05, 99),
        # What is shared makes several people one.
        (replace(SIMPLE, away=1.0, ipv6=0.0, visits=1.0, carrier_addresses=1), 0, 0.95),
        (replace(SIMPLE, share_a_home=1.0), 0, 0.95),
    ],
    ids=["addresses", "updates", "devices", "carrier", "homes"],
)
def test_the_count_grows_by_changes_and_shrinks_by_sharing(
    world: World, least: float, most: float
) -> None:
    outcome = simulate(world, BROWSERS, 1)
    assert least < outcome.counted < most
    assert (outcome.people_a_hash if least else outcome.hashes_a_person) == 1


def test_the_same_seed_is_the_same_month() -> None:
    assert simulate(World(people=200), BROWSERS, 7) == simulate(World(people=200), BROWSERS, 7)
