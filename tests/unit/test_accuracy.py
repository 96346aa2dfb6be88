"""bench/accuracy: months in which the right answer is known without simulating them."""

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


def test_the_64_is_what_keeps_a_device_with_ipv6_one() -> None:
    """Its lower half is another each day."""
    world = replace(SIMPLE, ipv6=1.0, visits=5.0)
    assert simulate(world, BROWSERS, 1).counted == 1
    assert simulate(replace(world, whole_ipv6=True), BROWSERS, 1).counted > 2


@pytest.mark.parametrize(
    "world",
    [
        replace(SIMPLE, daily=1.0),
        replace(SIMPLE, new_browser=1.0, new_system=1.0),
        replace(SIMPLE, both=0.5),
    ],
    ids=["addresses", "updates", "devices"],
)
def test_what_changes_makes_one_person_several(world: World) -> None:
    outcome = simulate(world, BROWSERS, 1)
    assert outcome.counted > 1.05
    assert outcome.people_a_hash == 1


@pytest.mark.parametrize(
    "world",
    [
        replace(SIMPLE, away=1.0, ipv6=0.0, visits=1.0, carrier_addresses=1),
        replace(SIMPLE, share_a_home=1.0),
    ],
    ids=["carrier", "homes"],
)
def test_what_is_shared_makes_several_people_one(world: World) -> None:
    outcome = simulate(world, BROWSERS, 1)
    assert outcome.counted < 0.95
    assert outcome.hashes_a_person == 1


def test_the_same_seed_is_the_same_month() -> None:
    assert simulate(World(people=200), BROWSERS, 7) == simulate(World(people=200), BROWSERS, 7)
