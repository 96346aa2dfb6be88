"""Simulates a month of one site: people with their addresses and browsers, and our count. Pure.

The hash is the collector's own (`contract.identity`). `World` has the assumptions about people and
networks, each with its source.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from bench.load.people import UserAgents, unused_ipv4, unused_ipv6
from contract.identity import Hasher, network_of

_DAYS = 30
_SITE = "city.example.org"
_SALT = bytes(32)


@dataclass(frozen=True, slots=True)
class World:
    """Shares are of 1. Where no source is named, the value is assumed: we know of no measurement
    for a platform of this kind.
    """

    people: int = 2000  # who come to the site in a month
    visits: float = 2.0  # a person's mean, geometrically distributed
    phone_only: float = 0.5
    both: float = 0.25  # have a telephone and a computer; the rest have a computer only
    share_a_home: float = 0.1  # whose home has another visitor of the site
    # That many hosts share an address: Maier, Schneider, Feldmann, «NAT usage in residential
    # broadband networks», PAM 2011.
    in_offices: float = 0.1  # who also come from work
    an_office: int = 15  # people behind one address
    office_browser: float = 0.5  # of them, who have the office's browser
    away: float = 0.35  # a telephone's visits over its carrier's network
    # IPv4 addresses of a carrier, of which each visit gets any. That carriers do so: Richter et
    # al., «A multi-perspective analysis of carrier-grade NAT deployment», IMC 2016.
    carrier_addresses: int = 250
    ipv6: float = 0.45  # homes and telephones that have it: between the shares of countries
    # Homes whose address changes each day, and the daily chance of a change in the others. That
    # some networks change it each 24 hours: Padmanabhan et al., «Reasons dynamic addresses change»,
    # IMC 2016.
    daily: float = 0.15
    changing: float = 0.02
    # Browsers whose User-Agent changes within the month: those that are released every four weeks
    # (Chrome, Edge, Firefox), and the others.
    new_browser: float = 0.9
    new_system: float = 0.2
    # Count by the whole IPv6 address. Devices change its lower half daily (RFC 8981).
    whole_ipv6: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a month."""

    counted: float  # different hashes by people: 1 is exact
    hashes_a_person: float  # above 1: one person was counted as several
    people_a_hash: float  # above 1: several people were counted as one


class _Home:
    def __init__(self, world: World, dice: random.Random, number: int) -> None:
        self.has_ipv6 = dice.random() < world.ipv6
        daily = dice.random() < world.daily
        chance = 1.0 if daily else world.changing
        changes = [dice.random() < chance for _ in range(_DAYS)]
        self._turns = [sum(changes[: day + 1]) for day in range(_DAYS)]
        self._number = number

    def line(self, day: int) -> int:
        """Which of all lines' addresses it has on this day."""
        return self._number * _DAYS + self._turns[day] + 1


class _Device:
    def __init__(self, world: World, dice: random.Random, agent: str, number: int) -> None:
        often = "Firefox/" in agent or "Chrome/" in agent
        updates = dice.random() < (world.new_browser if often else world.new_system)
        self._agent = agent
        self.is_phone = "Mobile" in agent
        self._updated_on = dice.randrange(_DAYS) if updates else _DAYS
        self.number = number

    def agent(self, day: int) -> str:
        return self._agent + ("" if day < self._updated_on else " (updated)")


@dataclass(frozen=True, slots=True)
class _Person:
    """A person: a home, one or two devices, and perhaps an office with another device."""

    home: _Home
    devices: Sequence[_Device]
    office: int | None
    at_work: _Device | None

    def visit(self, world: World, dice: random.Random, day: int) -> tuple[bytes, _Device]:
        """The address and the device of one visit."""
        if self.office is not None and self.at_work is not None and dice.random() < 0.5:
            return unused_ipv4(1 << 27 | self.office), self.at_work
        used = dice.choice(self.devices)
        if used.is_phone and dice.random() < world.away:
            return _carrier(world, dice, self.home, used, day), used
        line = self.home.line(day)
        return _ipv6(line, used, day) if self.home.has_ipv6 else unused_ipv4(line), used


def simulate(world: World, browsers: UserAgents, seed: int) -> Outcome:
    """One month: the same for the same seed."""
    dice = random.Random(seed)
    hasher = Hasher(_SALT)
    hashes: defaultdict[int, set[bytes]] = defaultdict(set)
    people: defaultdict[bytes, set[int]] = defaultdict(set)
    for number, person in enumerate(_people(world, browsers, dice)):
        for _ in range(_visits(dice, world.visits)):
            day = dice.randrange(_DAYS)
            address, device = person.visit(world, dice, day)
            network = address if world.whole_ipv6 else network_of(address)
            hash_ = hasher.visitor(_SITE, network, device.agent(day))
            hashes[number].add(hash_)
            people[hash_].add(number)
    return Outcome(
        len(people) / len(hashes),
        sum(map(len, hashes.values())) / len(hashes),
        sum(map(len, people.values())) / len(people),
    )


def _people(world: World, browsers: UserAgents, dice: random.Random) -> Iterator[_Person]:
    phones, computers = _browsers(browsers, phones=True), _browsers(browsers, phones=False)
    numbers = count()
    office_agents = [_pick(dice, computers) for _ in range(world.people // world.an_office + 1)]

    def device(agent: str) -> _Device:
        return _Device(world, dice, agent, next(numbers))

    home, alone, workers = _Home(world, dice, 0), True, 0
    # Of people in pairs and alone: how many of those who stand alone are followed by their mate.
    follows = world.share_a_home / (2 - world.share_a_home)
    for number in range(world.people):
        # Two who share a home come one after the other.
        joins = alone and number > 0 and dice.random() < follows
        home = home if joins else _Home(world, dice, number)
        alone = not joins
        kind = dice.random()
        has_phone = kind < world.phone_only + world.both
        devices = [device(_pick(dice, phones))] if has_phone else []
        if kind >= world.phone_only or not has_phone:
            devices.append(device(_pick(dice, computers)))
        office = at_work = None
        if dice.random() < world.in_offices:
            office, workers = workers // world.an_office, workers + 1
            own = dice.random() >= world.office_browser
            at_work = device(_pick(dice, computers) if own else office_agents[office])
        yield _Person(home, devices, office, at_work)


def _carrier(world: World, dice: random.Random, home: _Home, phone: _Device, day: int) -> bytes:
    if home.has_ipv6:  # a network of its own for as long as the telephone is attached
        return _ipv6(1 << 40 | phone.number * _DAYS + day, phone, day)
    return unused_ipv4(1 << 26 | dice.randrange(world.carrier_addresses))


def _ipv6(network: int, device: _Device, day: int) -> bytes:
    return unused_ipv6(network, 1 << 62 | device.number << 8 | day)


def _visits(dice: random.Random, mean: float) -> int:
    visits = 1
    while dice.random() > 1 / mean:
        visits += 1
    return visits


def _browsers(browsers: UserAgents, *, phones: bool) -> UserAgents:
    both = zip(browsers.texts, browsers.weights, strict=True)
    texts, weights = zip(*[each for each in both if ("Mobile" in each[0]) == phones], strict=True)
    return UserAgents(texts, weights)


def _pick(dice: random.Random, browsers: UserAgents) -> str:
    (picked,) = dice.choices(browsers.texts, browsers.weights)
    return picked
