"""bench/load/people.py: the visitors, users and crawlers of a load."""

import re
from collections import Counter
from ipaddress import ip_address

from bench.load.people import FIRST, People, Plan, Token, Upgrade, UserAgents
from bench.load.sent_log import Who
from collector.request.crawlers import CrawlerFilter
from contract.identity import network_of

SITES = ("a.example.org", "b.example.org", "c.example.org")
TAG = bytes.fromhex("80000001")


def people(sessions: int = 20_000, *, seed: int = 1, tag: bytes = TAG) -> People:
    return People(Plan(SITES, sessions, seed=seed), tag)


def test_a_load_has_the_requested_size_and_about_the_requested_shares() -> None:
    """One seed gives the same load."""
    visits = list(people().visits())
    assert visits == list(people().visits())
    assert visits != list(people(seed=2).visits())
    assert len(visits) == 20_000
    who = Counter(visit.who for visit in visits)
    assert 0.04 < who[Who.CRAWLER] / 20_000 < 0.06
    persons = [visit for visit in visits if visit.who is not Who.CRAWLER]
    upgraded = Counter(visit.upgrade for visit in persons)
    assert 0.09 < 1 - upgraded[Upgrade.NONE] / len(persons) < 0.11
    assert all(upgraded[kind] for kind in Upgrade)
    assert {visit.token for visit in persons} == set(Token)
    assert any(visit.repeats_start for visit in visits)
    assert any(visit.repeats_upgrade for visit in visits)
    # Which session `current` means must be certain.
    came = Counter(visit.visitor for visit in visits)
    assert all(
        came[visit.visitor] == 1 and not visit.repeats_upgrade
        for visit in visits
        if visit.upgrade is Upgrade.CURRENT
    )


def test_each_visitor_number_has_its_own_network_and_browser() -> None:
    load = people()
    of_number: dict[int, tuple[bytes, str]] = {}
    for visit in load.visits():
        if visit.who is not Who.CRAWLER:
            who = network_of(ip_address(load.address(visit)).packed), load.user_agent(visit)
            assert of_number.setdefault(visit.visitor, who) == who
    assert len(set(of_number.values())) == len(of_number)
    # Some share an address, and some have IPv6.
    assert len({network for network, _ in of_number.values()}) < len(of_number)
    assert {len(network) for network, _ in of_number.values()} == {4, 8}


def test_the_first_are_two_visitors_who_differ_only_in_their_address_and_a_user() -> None:
    load = people()
    one, other, user = list(load.visits())[:FIRST]
    assert (one.who, other.who, user.who) == (Who.VISITOR, Who.VISITOR, Who.USER)
    assert load.user_agent(one) == load.user_agent(other)
    assert load.address(one) != load.address(other)


def test_another_run_has_other_addresses() -> None:
    load, other = people(100), people(100, tag=bytes.fromhex("9abcdef0"))
    addresses = {network_of(ip_address(load.address(visit)).packed) for visit in load.visits()}
    others = {network_of(ip_address(other.address(visit)).packed) for visit in other.visits()}
    assert not addresses & others


def test_browsers_are_no_crawlers_and_crawlers_are() -> None:
    crawlers = CrawlerFilter()
    browsers = UserAgents.load("user_agents.txt")
    assert len(browsers.texts) == len(set(browsers.texts)) == 300
    assert all(weight > 0 for weight in browsers.weights)
    for text in browsers.texts:
        assert crawlers.reason(text) is None
        assert re.fullmatch(r"[ -~]+", text)
    for text in UserAgents.load("crawlers.txt").texts:
        assert crawlers.reason(text) is not None
