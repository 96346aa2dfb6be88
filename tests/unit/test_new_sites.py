"""collector/request/new_sites.py: where no sites are named, new ones are limited per minute."""

from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry

from collector.request.new_sites import _REMEMBERED, BURST_MINUTES, NewSites
from collector.request.site import SitePolicy
from contract.collector_metrics import CollectorMetrics
from contract.errors import Retry
from tests.unit.steady import Steady


def new_sites(*patterns: str, per_minute: int = 6) -> tuple[NewSites, Steady]:
    time = Steady()
    metrics = CollectorMetrics(CollectorRegistry())
    return NewSites(SitePolicy(patterns or ("*",)), per_minute, metrics, time), time


def admitted(sites: NewSites, names: list[str]) -> int:
    count = 0
    for name in names:
        with suppress(Retry):
            sites.admit(name)
            count += 1
    return count


def many(prefix: str, count: int = 500) -> list[str]:
    return [f"{prefix}{number}.example.org" for number in range(count)]


def test_some_new_sites_are_admitted_at_once_and_then_a_number_each_minute() -> None:
    sites, time = new_sites()
    assert admitted(sites, many("a")) == 6 * BURST_MINUTES
    assert admitted(sites, ["a0.example.org"] * 1000) == 1000, "a known one"
    assert admitted(sites, ["late.example.org"]) == 0
    time.seconds += 10
    assert admitted(sites, ["late.example.org", "next.example.org"]) == 1
    for turn in range(3):
        time.seconds += 60
        assert admitted(sites, many(f"b{turn}-")) == 6
    time.seconds += 86_400
    assert admitted(sites, many("c")) == 6 * BURST_MINUTES, "not more after a longer wait"


@pytest.mark.parametrize("patterns", [("*.example.org",), ("*", "*.example.org")])
def test_named_sites_are_never_refused(patterns: tuple[str, ...]) -> None:
    sites, _ = new_sites(*patterns)
    assert admitted(sites, many("a", 10_000)) == 10_000
    assert sites.warnings() == {"new_sites": None}


def test_a_site_that_comes_often_stays_known_in_bounded_memory() -> None:
    """Sites that do not come are forgotten first."""
    sites, _ = new_sites(per_minute=1_000_000)
    sites.admit("city.example.org")
    for turn in range(4):
        admitted(sites, many(f"{turn}-", _REMEMBERED - 1))
        sites.admit("city.example.org")
    assert len(sites._recent) + len(sites._earlier) <= 2 * _REMEMBERED
    assert "city.example.org" in sites._recent | sites._earlier
