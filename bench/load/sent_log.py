"""What was sent and what was answered, in columns: about 55 bytes a session. Pure.

The sender (the load, or a test that kills processes) notes each request before it is sent, and its
answer afterwards. Reconciliation compares the rows with it.
"""

import os
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum

_TAG_BYTES = 4


class Who(IntEnum):
    """What a session begins as."""

    VISITOR = 0
    USER = 1
    CRAWLER = 2


class Outcome(IntEnum):
    """What is known of a request. Of a repeated one, the greatest counts."""

    UNSENT = 0
    REFUSED = 1  # 204 or 4xx: it must not be stored
    UNKNOWN = 2  # no answer or 5xx: it may be stored or not
    ACCEPTED = 3  # 201 or 202: it must be stored


class SentLog:
    """The sessions of one run, numbered from 0.

    Every id is a UUIDv7 (RFC 9562). Its bytes 8 to 11 are the run's random `tag`, its last four the
    session's number: so a row shows whether it is of this run, and of which session.
    """

    def __init__(self, sites: Sequence[str], role_of: Callable[[int], str]) -> None:
        """
        Args:
            sites: the hosts, as they are to be stored.
            role_of: the role that is to be stored for a user's number.
        """
        tag = bytearray(os.urandom(_TAG_BYTES))
        tag[0] = tag[0] & 0x3F | 0x80  # the variant of RFC 9562
        self.tag = bytes(tag)
        self.sites = tuple(sites)
        self.role_of = role_of
        self.misjudged: Counter[str] = Counter()
        self._heads = array("Q")
        self._who = bytearray()
        self._site = array("H")
        self._visitor = array("I")
        self._user = array("I")
        self._start = _Requests()
        self._upgrade = _Requests()

    def __len__(self) -> int:
        return len(self._heads)

    def session(self, who: Who, site: int, visitor: int, user: int, at_us: int) -> int:
        """A session that is about to be sent; its number.

        Args:
            who: what it begins as.
            site: the index of its site.
            visitor: the number of its visitor. Two sessions have the same one exactly if address
                (IPv6: the /64) and User-Agent are the same.
            user: the number of the user who is, or may get, signed in; 0 where there is none.
            at_us: now, in microseconds: the time in the id.
        """
        milliseconds = at_us // 1000
        random_bits = int.from_bytes(os.urandom(2), "big") & 0x0FFF
        self._heads.append(milliseconds << 16 | 0x7000 | random_bits)
        self._who.append(who)
        self._site.append(site)
        self._visitor.append(visitor)
        self._user.append(user)
        self._start.add()
        self._upgrade.add()
        return len(self._heads) - 1

    def start_sent(self, number: int, at_us: int) -> None:
        """`POST /sessions` is about to be sent, for the first time or again."""
        self._start.sent(number, at_us)

    def start_answered(self, number: int, status: int | None, at_us: int) -> None:
        """Its answer; None: there was none, and there will be none."""
        self._answered("start", number, status, at_us)

    def upgrade_sent(self, number: int, at_us: int) -> None:
        """An upgrade of it is about to be sent, for the first time or again."""
        self._upgrade.sent(number, at_us)

    def upgrade_answered(self, number: int, status: int | None, at_us: int) -> None:
        """Its answer; None: there was none, and there will be none."""
        self._answered("upgrade", number, status, at_us)

    def id_of(self, number: int) -> bytes:
        """The session's id, 16 bytes."""
        return self._heads[number].to_bytes(8, "big") + self.tag + number.to_bytes(4, "big")

    def number_of(self, id_: bytes) -> int | None:
        """The session that has this id, or None: there is none."""
        number = int.from_bytes(id_[12:], "big")
        return number if number < len(self) and self.id_of(number) == id_ else None

    def id_bounds(self, margin_seconds: int) -> tuple[bytes, bytes]:
        """The least and the greatest id that this run may have made, with a margin of time.

        Raises:
            ValueError: it has no session.
        """
        margin = margin_seconds * 1000 << 16
        first, last = min(self._heads) - margin, max(self._heads) + margin
        return max(first, 0).to_bytes(8, "big") + bytes(8), last.to_bytes(8, "big") + b"\xff" * 8

    def who(self, number: int) -> Who:
        return Who(self._who[number])

    def site(self, number: int) -> str:
        return self.sites[self._site[number]]

    def site_index(self, number: int) -> int:
        return self._site[number]

    def visitor(self, number: int) -> int:
        return self._visitor[number]

    def user(self, number: int) -> int:
        return self._user[number]

    def start_outcome(self, number: int) -> Outcome:
        return Outcome(self._start.outcome[number])

    def upgrade_outcome(self, number: int) -> Outcome:
        return Outcome(self._upgrade.outcome[number])

    def start_window_us(self, number: int) -> tuple[int, int | None]:
        """Between which instants a stored start arrived; None: no end is known."""
        return self._start.window_us(number)

    def upgrade_window_us(self, number: int) -> tuple[int, int | None]:
        """Between which instants a stored upgrade arrived; None: no end is known."""
        return self._upgrade.window_us(number)

    def expected(self) -> tuple[int, int]:
        """How many rows there must be at least, and how many of them upgraded."""
        starts, upgrades = self._start.outcome, self._upgrade.outcome
        accepted = int(Outcome.ACCEPTED)
        rows = starts.count(accepted)
        upgraded = sum(
            start == accepted and upgrade == accepted and who == Who.VISITOR
            for start, upgrade, who in zip(starts, upgrades, self._who, strict=True)
        )
        return rows, upgraded

    def _answered(self, route: str, number: int, status: int | None, at_us: int) -> None:
        requests, wanted = (self._start, 201) if route == "start" else (self._upgrade, 202)
        if self._who[number] == Who.CRAWLER:
            wanted = 204
        if status is None or status >= 500:
            outcome = Outcome.UNKNOWN
        elif status in (201, 202):
            outcome = Outcome.ACCEPTED
        else:
            outcome = Outcome.REFUSED
        if outcome != Outcome.UNKNOWN and status != wanted:
            self.misjudged[f"{Who(self._who[number]).name.lower()} {route} {status}"] += 1
        requests.answered(number, outcome, at_us)


class _Requests:
    """When requests were first sent and first accepted, and what is known of them; in columns."""

    def __init__(self) -> None:
        self.outcome = bytearray()
        self._sent_us = array("q")
        self._accepted_us = array("q")

    def add(self) -> None:
        self.outcome.append(Outcome.UNSENT)
        self._sent_us.append(0)
        self._accepted_us.append(0)

    def sent(self, number: int, at_us: int) -> None:
        if not self._sent_us[number]:
            self._sent_us[number] = at_us

    def answered(self, number: int, outcome: Outcome, at_us: int) -> None:
        if outcome == Outcome.ACCEPTED and not self._accepted_us[number]:
            self._accepted_us[number] = at_us
        self.outcome[number] = max(self.outcome[number], outcome)

    def window_us(self, number: int) -> tuple[int, int | None]:
        # Of several that are stored the earliest counts: it came no later than the first answer.
        return self._sent_us[number], self._accepted_us[number] or None
