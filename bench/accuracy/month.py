"""A month of one site: who comes, from where and with what; and what our hash makes of it. Pure.

The hash is the collector's own (`contract.identity`). What is assumed of people and networks is in
`World`, each with where it is from.
"""

import random
from collections import defaultdict
from dataclasses import dataclass
from itertools import count

from bench.load.people import UserAgents
from contract.identity import Hasher, network_of

_DAYS = 30
_SITE = "city.example.org"
_SALT = bytes(32)
# Addresses that nobody has: 240.0.0.0/4 (RFC 1112, section 4) and 3fff::/20 (RFC 9637).
_IPV4, _IPV6 = 0xF0 << 24, 0x3FFF << 48


@dataclass(frozen=True, slots=True)
class World:
    """Shares are of 1. «Assumed»: we know of no measurement that fits a platform of this kind.

    Attributes:
        people: who come to the site in a month.
        visits: a person's mean (geometrically distributed). Assumed.
        phone_only, both: people with a telephone alone, and with a computer, too; the others have
            a computer alone. Assumed.
        share_a_home: people whose home has another visitor of the site. Assumed.
        in_offices, an_office: people who also come from work, and how many of them are behind one
            address; `office_browser`: that many have the office's browser. Assumed. That many
            hosts share an address: Maier, Schneider, Feldmann, «NAT usage in residential broadband
            networks», PAM 2011.
        away: a telephone's visits by its carrier's network. Assumed.
        carrier_addresses: IPv4 addresses of which a carrier's network gives any to each visit.
            That carriers do so: Richter et al., «A multi-perspective analysis of carrier-grade NAT
            deployment», IMC 2016. How many there are where a site's people live is assumed.
        ipv6: homes and telephones that have it. Assumed: between the shares that countries have.
        daily, changing: homes whose address is another each day, and the chance of it on a day of
            the others. That some networks do so each 24 hours, and others now and then: Padmanabhan
            et al., «Reasons dynamic addresses change», IMC 2016. The shares are assumed.
        new_browser, new_system: browsers of four weeks' releases (Chrome, Edge, Firefox) and others
            whose User-Agent becomes another within the month. Chrome's releases are every four
            weeks; how many follow within the month is assumed.
        whole_ipv6: count by the whole IPv6 address instead of its /64. Devices change its lower
            half daily (RFC 8981).
    """

    people: int = 2000
    visits: float = 2.0
    phone_only: float = 0.5
    both: float = 0.25
    share_a_home: float = 0.1
    in_offices: float = 0.1
    an_office: int = 15
    office_browser: float = 0.5
    away: float = 0.35
    carrier_addresses: int = 250
    ipv6: float = 0.45
    daily: float = 0.15
    changing: float = 0.02
    new_browser: float = 0.9
    new_system: float = 0.2
    whole_ipv6: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a month."""

    counted: float
    """Different hashes a person who came: 1 is exact."""
    hashes_a_person: float
    """One person counted as several."""
    people_a_hash: float
    """Several people counted as one."""


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
        self._updated_on = dice.randrange(_DAYS) if updates else _DAYS
        self.number = number

    def agent(self, day: int) -> str:
        return self._agent + ("" if day < self._updated_on else " (updated)")


def simulate(world: World, browsers: UserAgents, seed: int) -> Outcome:
    """One month.

    Args:
        world: what is assumed.
        browsers: User-Agents with their weights.
        seed: of all chance; the same seed gives the same month.
    """
    dice = random.Random(seed)
    hasher = Hasher(_SALT)
    phones, computers = _browsers(browsers, phones=True), _browsers(browsers, phones=False)
    numbers = count()
    office_agents = [_pick(dice, computers) for _ in range(world.people // world.an_office + 1)]

    def device(of: UserAgents) -> _Device:
        return _Device(world, dice, _pick(dice, of), next(numbers))

    hashes: defaultdict[int, set[bytes]] = defaultdict(set)
    people: defaultdict[bytes, set[int]] = defaultdict(set)
    home = _Home(world, dice, 0)
    alone = True
    workers = 0
    # Of people in pairs and alone: how many of those who stand alone are followed by their mate.
    follows = world.share_a_home / (2 - world.share_a_home)
    for person in range(world.people):
        # Two who share a home come one after the other.
        joins = alone and person > 0 and dice.random() < follows
        home = home if joins else _Home(world, dice, person)
        alone = not joins
        kind = dice.random()
        phone = device(phones) if kind < world.phone_only + world.both else None
        computer = device(computers) if kind >= world.phone_only or phone is None else None
        office = None
        if dice.random() < world.in_offices:
            office, workers = workers // world.an_office, workers + 1
            agent = office_agents[office]
            its = dice.random() < world.office_browser
            at_work = _Device(world, dice, agent, next(numbers)) if its else device(computers)
        for _ in range(_visits(dice, world.visits)):
            day = dice.randrange(_DAYS)
            if office is not None and dice.random() < 0.5:
                address, used = _ipv4(1 << 27 | office), at_work
            else:
                used = _one_of(dice, phone, computer)
                if used is phone and dice.random() < world.away:
                    address = _carrier(world, dice, home, used, day)
                elif home.has_ipv6:
                    address = _ipv6(home.line(day), used.number, day)
                else:
                    address = _ipv4(home.line(day))
            network = address if world.whole_ipv6 else network_of(address)
            hash_ = hasher.visitor(_SITE, network, used.agent(day))
            hashes[person].add(hash_)
            people[hash_].add(person)
    return Outcome(
        len(people) / len(hashes),
        sum(map(len, hashes.values())) / len(hashes),
        sum(map(len, people.values())) / len(people),
    )


def _carrier(world: World, dice: random.Random, home: _Home, phone: _Device, day: int) -> bytes:
    if home.has_ipv6:  # a network of its own for as long as the telephone is attached
        return _ipv6(1 << 40 | phone.number * _DAYS + day, phone.number, day)
    return _ipv4(1 << 26 | dice.randrange(world.carrier_addresses))


def _ipv4(number: int) -> bytes:
    return (_IPV4 | number).to_bytes(4, "big")


def _ipv6(network: int, device: int, day: int) -> bytes:
    return (_IPV6 | network).to_bytes(8, "big") + (1 << 62 | device << 8 | day).to_bytes(8, "big")


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


def _one_of(dice: random.Random, *devices: _Device | None) -> _Device:
    return dice.choice([each for each in devices if each is not None])
