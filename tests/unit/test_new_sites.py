"""collector/request/new_sites.py: who knows no site lets only some begin, and says so."""

from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry

from collector.request.new_sites import _REMEMBERED, BURST_MINUTES, NewSites
from collector.request.site import SitePolicy
from contract.collector_metrics import CollectorMetrics
from contract.errors import Retry


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def new_sites(*patterns: str, per_minute: int = 6) -> tuple[NewSites, Time]:
    time = Time()
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


def test_so_many_begin_at_once_and_then_so_many_a_minute() -> None:
    sites, time = new_sites()
    assert admitted(sites, many("a")) == 6 * BURST_MINUTES
    for turn in range(3):
        time.now += 60
        assert admitted(sites, many(f"b{turn}-")) == 6
    time.now += 86_400
    assert admitted(sites, many("c")) == 6 * BURST_MINUTES, "no more for waiting longer"


def test_a_site_that_is_known_is_never_refused() -> None:
    sites, _ = new_sites()
    sites.admit("city.example.org")
    admitted(sites, many("junk"))
    assert admitted(sites, ["city.example.org"] * 1000) == 1000


def test_a_site_that_is_refused_comes_in_later() -> None:
    sites, time = new_sites()
    admitted(sites, many("junk"))
    assert admitted(sites, ["city.example.org"]) == 0
    time.now += 10
    assert admitted(sites, ["city.example.org"]) == 1


@pytest.mark.parametrize("patterns", [("*.example.org",), ("*", "*.example.org")])
def test_sites_that_are_named_are_never_refused(patterns: tuple[str, ...]) -> None:
    sites, _ = new_sites(*patterns)
    assert admitted(sites, many("a", 10_000)) == 10_000
    assert sites.warnings() == {"new_sites": None}


def test_a_refusal_is_warned_of_for_a_while() -> None:
    sites, time = new_sites()
    assert sites.warnings() == {"new_sites": None}
    admitted(sites, many("junk"))
    assert "SITES" in str(sites.warnings()["new_sites"])
    time.now += 599
    assert sites.warnings()["new_sites"]
    time.now += 2
    assert sites.warnings() == {"new_sites": None}


def test_a_site_that_is_asked_for_is_remembered_among_many() -> None:
    """In bounded memory: those that are not asked for go first."""
    sites, time = new_sites(per_minute=1_000_000)
    sites.admit("city.example.org")
    for turn in range(4):
        admitted(sites, many(f"{turn}-", _REMEMBERED - 1))
        sites.admit("city.example.org")
    held = len(sites._recent) + len(sites._earlier)
    assert held <= 2 * _REMEMBERED
    assert "city.example.org" in sites._recent | sites._earlier
    assert time.now == 1000.0
