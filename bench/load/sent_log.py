"""What was sent and what was answered. Pure.

The sender (the load, or a test that kills processes) notes each request before it is sent, and its
answer afterwards. Reconciliation compares the rows with it.
"""

import os
from collections import Counter
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from uuid import UUID

_TAG_BYTES = 4
_EXPECTED = {"start": 201, "upgrade": 202}  # of people


class Who(Enum):
    """What a session begins as."""

    VISITOR = auto()
    USER = auto()
    CRAWLER = auto()


class Outcome(IntEnum):
    """What is known about a request. If it was sent several times, the greatest value counts."""

    UNSENT = 0
    REFUSED = 1  # 204 or 4xx: it must not be stored
    UNKNOWN = 2  # no answer or 5xx: it may be stored or not
    ACCEPTED = 3  # 201 or 202: it must be stored


@dataclass(slots=True)
class Request:
    """A request, which may be sent several times. Instants in microseconds since the epoch.

    If it is stored, it arrived between `sent_us` and `accepted_us`. If several are stored, the
    earliest counts, which arrived no later than the first answer.
    """

    who: Who  # sends it
    kind: str  # "start" or "upgrade"
    misjudged: Counter[str]  # the run's wrong answers
    outcome: Outcome = Outcome.UNSENT
    sent_us: int = 0  # for the first time
    accepted_us: int | None = None  # for the first time

    def sent(self, at_us: int) -> None:
        """It is about to be sent, for the first time or again."""
        self.sent_us = self.sent_us or at_us

    def answered(self, status: int | None, at_us: int) -> None:
        """Its answer; None: there was none, and there will be none."""
        if status is None or status >= 500:
            outcome = Outcome.UNKNOWN
        elif status in (201, 202):
            outcome = Outcome.ACCEPTED
            self.accepted_us = self.accepted_us or at_us
        else:
            outcome = Outcome.REFUSED
        expected = 204 if self.who is Who.CRAWLER else _EXPECTED[self.kind]
        if outcome is not Outcome.UNKNOWN and status != expected:
            self.misjudged[f"{self.who.name.lower()} {self.kind} {status}"] += 1
        self.outcome = max(self.outcome, outcome)


@dataclass(frozen=True, slots=True)
class Session:
    """A session of the run."""

    id: bytes
    who: Who
    site: str
    visitor: int  # the same number means: the same address (IPv6: /64) and User-Agent
    user: int  # the user who is, or may get, signed in
    role: str  # the role of that user, as it is to be stored
    start: Request
    upgrade: Request


class SentLog:
    """The sessions of one run.

    Every id is a UUIDv7 (RFC 9562). Its bytes 8 to 11 are the run's random `tag`, its last four the
    session's number: so a row shows whether it is of this run, and of which session.
    """

    def __init__(self) -> None:
        tag = bytearray(os.urandom(_TAG_BYTES))
        tag[0] = tag[0] & 0x3F | 0x80  # the variant of RFC 9562
        self.tag = bytes(tag)
        self.misjudged: Counter[str] = Counter()
        self.sessions: list[Session] = []

    def add(self, at_us: int, who: Who, site: str, visitor: int, user: int, role: str) -> Session:
        """A session that is about to be sent, now (`at_us`). The others as in `Session`."""
        random_bits = int.from_bytes(os.urandom(2), "big") & 0x0FFF
        head = at_us // 1000 << 16 | 0x7000 | random_bits
        id_ = head.to_bytes(8, "big") + self.tag + len(self.sessions).to_bytes(4, "big")
        start, upgrade = (Request(who, kind, self.misjudged) for kind in _EXPECTED)
        self.sessions.append(Session(id_, who, site, visitor, user, role, start, upgrade))
        return self.sessions[-1]

    def find(self, id_: bytes) -> Session | None:
        """The session that has this id, or None: there is none."""
        number = int.from_bytes(id_[12:], "big")
        found = self.sessions[number] if number < len(self.sessions) else None
        return found if found is not None and found.id == id_ else None

    def id_bounds(self, margin_seconds: int) -> tuple[bytes, bytes]:
        """The least and the greatest id that this run may have made, with a margin of time.

        Raises:
            ValueError: it has no session.
        """
        margin = margin_seconds * 1000 << 16
        heads = [int.from_bytes(session.id[:8], "big") for session in self.sessions]
        first, last = min(heads) - margin, max(heads) + margin
        return max(first, 0).to_bytes(8, "big") + bytes(8), last.to_bytes(8, "big") + b"\xff" * 8


def id_text(session_id: bytes) -> str:
    """A session's id in the canonical form of a UUID."""
    return str(UUID(bytes=session_id))
