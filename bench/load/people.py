"""The visitors, users and crawlers of a load, and what they do. Pure. One seed gives one load.

The run's random tag shifts the addresses, so that two runs share none. Otherwise `current` could
mean a session of an earlier run.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from importlib.resources import files
from socket import AF_INET, AF_INET6, inet_ntop

from bench.load.sent_log import Who

# In per cent of the sessions of people.
SIGNED_IN = 20.0
BAD_TOKEN = 10.0  # of the visitors' sessions: `Bearer undefined`, or an expired token
REPEATED = 3.0  # of starts and of upgrades by id: sent twice
# In per cent of the upgraded sessions.
CURRENT = 20.0
OVERTAKING = 5.0  # the upgrade is sent before its session
# In per cent of the crawlers' sessions.
CRAWLER_UPGRADES = 10.0

FIRST = 3
ROLES = ("user", "admin", "super_admin", "project_moderator")
NO_ROLE = 5  # every fifth user has a token without a role, and counts as `user`
_SESSIONS_A_VISITOR = 3
_SESSIONS_A_USER = 4
_SHARED_ADDRESS = 8  # every eighth visitor has the address of the one before, and another browser
_IPV6 = 3  # every third pair of visitors has IPv6; those who share an address are a pair

_PICKS = 4096


class Token(Enum):
    """Where a start carries a token, and which."""

    NONE = auto()
    HEADER = auto()
    BODY = auto()
    UNDEFINED = auto()
    EXPIRED = auto()


class Upgrade(Enum):
    """How a session is upgraded."""

    NONE = auto()
    BY_ID = auto()
    OVERTAKING = auto()  # by id, and sent before its session
    CURRENT = auto()


@dataclass(frozen=True, slots=True)
class Visit:
    """One session, and the requests that will be made for it. Numbers as in `Session`."""

    who: Who
    site: str
    visitor: int
    user: int
    token: Token = Token.NONE
    upgrade: Upgrade = Upgrade.NONE
    repeats_start: bool = False
    repeats_upgrade: bool = False


@dataclass(frozen=True, slots=True)
class UserAgents:
    """User-Agents and their weights."""

    texts: Sequence[str]
    weights: Sequence[int]

    @classmethod
    def load(cls, name: str) -> "UserAgents":
        """From a file of this folder: lines of a weight, a tab and the text; `#` comments."""
        lines = files("bench.load").joinpath(name).read_text(encoding="ascii").splitlines()
        pairs = [line.split("\t") for line in lines if line and not line.startswith("#")]
        return cls([text for _, text in pairs], [int(weight) for weight, _ in pairs])


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a load is, and of which visits."""

    sites: tuple[str, ...]
    sessions: int  # at least `FIRST`
    upgraded_percent: float = 10.0  # of the people's sessions. With `SIGNED_IN`, at most 100
    crawlers_percent: float = 5.0  # of all sessions
    seed: int = 1  # the same visits for the same seed


class People:
    """The visits of a run, and the address and browser of each visitor."""

    def __init__(self, plan: Plan, tag: bytes) -> None:
        """`tag`: of the run, four random bytes."""
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._shift = int.from_bytes(tag, "big") << 12
        self._browsers = UserAgents.load("user_agents.txt")
        self._crawler_agents = UserAgents.load("crawlers.txt").texts
        self._picks = self._random.choices(
            range(len(self._browsers.texts)), self._browsers.weights, k=_PICKS
        )
        self._visitors = max(2, plan.sessions // _SESSIONS_A_VISITOR)
        self._users = max(1, plan.sessions // _SESSIONS_A_USER)
        self._next_own = self._visitors

    def visits(self) -> Iterator[Visit]:
        """All of them, in their order.

        The first `FIRST` show wrong settings early: two visitors who differ only in their address,
        and a user.
        """
        yield from self._first()
        for _ in range(self._plan.sessions - FIRST):
            yield self._visit()

    def user_agent(self, visit: Visit) -> str:
        if visit.who is Who.CRAWLER:
            return self._crawler_agents[visit.visitor % len(self._crawler_agents)]
        return self._browsers.texts[self._browser(visit.visitor)]

    def address(self, visit: Visit) -> str:
        """The client's address. With IPv6 its lower half differs in every session."""
        number = visit.visitor
        if _shares_address(number):
            number -= 1
        if number // 2 % _IPV6:
            return inet_ntop(AF_INET, unused_ipv4(self._shift + number))
        ipv6 = unused_ipv6(self._shift + number, self._random.getrandbits(64))
        return inet_ntop(AF_INET6, ipv6)

    def _browser(self, visitor: int) -> int:
        browser = self._picks[visitor * 2_654_435_761 % 2**32 >> 20]
        if _shares_address(visitor) and browser == self._browser(visitor - 1):
            browser = (browser + 1) % len(self._browsers.texts)
        return browser

    def _visit(self) -> Visit:
        site = self._plan.sites[self._random.randrange(len(self._plan.sites))]
        visitor = self._random.randrange(self._visitors)
        user = self._random.randrange(self._users)
        who, token, upgrade = Who.VISITOR, Token.NONE, Upgrade.NONE
        upgraded = self._plan.upgraded_percent
        drawn = self._random.uniform(0, 100)
        if self._happens(self._plan.crawlers_percent):
            who = Who.CRAWLER
            if self._happens(CRAWLER_UPGRADES):
                upgrade = Upgrade.BY_ID
        elif drawn < upgraded:
            upgrade = self._kind_of_upgrade()
            if upgrade is Upgrade.CURRENT:
                visitor = self._own_visitor()
        elif drawn < upgraded + SIGNED_IN:
            who = Who.USER
            token = self._random.choice((Token.HEADER, Token.HEADER, Token.BODY))
        if who is Who.VISITOR and self._happens(BAD_TOKEN):
            token = self._random.choice((Token.UNDEFINED, Token.EXPIRED))
        repeats_start = self._happens(REPEATED)
        by_id = upgrade in (Upgrade.BY_ID, Upgrade.OVERTAKING)
        repeats_upgrade = by_id and self._happens(REPEATED)
        return Visit(who, site, visitor, user, token, upgrade, repeats_start, repeats_upgrade)

    def _first(self) -> Iterator[Visit]:
        one = self._own_visitor()
        other = self._own_visitor()
        while self._browser(other) != self._browser(one) or _shares_address(other):
            other = self._own_visitor()
        site = self._plan.sites[0]
        yield Visit(Who.VISITOR, site, one, 0)
        yield Visit(Who.VISITOR, site, other, 0)
        yield Visit(Who.USER, site, one, 0, Token.HEADER)

    def _kind_of_upgrade(self) -> Upgrade:
        if self._happens(CURRENT):
            return Upgrade.CURRENT
        return Upgrade.OVERTAKING if self._happens(OVERTAKING) else Upgrade.BY_ID

    def _own_visitor(self) -> int:
        """A visitor who comes only once, so that `current` can mean only this session."""
        self._next_own += 1
        return self._next_own - 1

    def _happens(self, percent: float) -> bool:
        return self._random.uniform(0, 100) < percent


def unused_ipv4(number: int) -> bytes:
    """One of the 2**28 addresses of 240.0.0.0/4, which are not in use (RFC 1112, section 4)."""
    return (240 << 24 | number % (1 << 28)).to_bytes(4, "big")


def unused_ipv6(network: int, lower_half: int) -> bytes:
    """In one of the 2**44 networks (/64) of 3fff::/20, which is not in use (RFC 9637)."""
    return ((0x3FFF << 48 | network % (1 << 44)) << 64 | lower_half).to_bytes(16, "big")


def role_in_token(user: int) -> str | None:
    """The role that a user's token names; None: it names no role."""
    return None if user % NO_ROLE == NO_ROLE - 1 else ROLES[user % len(ROLES)]


def role_of(user: int) -> str:
    """The role that is to be stored for a user."""
    return role_in_token(user) or "user"


def _shares_address(visitor: int) -> bool:
    return visitor % _SHARED_ADDRESS == _SHARED_ADDRESS - 1
