"""The same visitors and users, who come again and again by a shifted clock."""

import asyncio
import uuid
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address

import jwt

from bench.load.client import Connection, NoAnswer, Unreachable, connect
from bench.load.sent_log import SentLog, Session, Who
from contract.calendar import DAY_US, SECOND_US
from contract.identity import Hasher
from tests.adversity.clocks import ShiftedClock
from tests.requests import FIREFOX
from tests.system import JWT_KEY

PEOPLE_A_CONNECTION = 4
# Which of the collectors has a connection is the kernel's choice, by the client's port: of a dozen
# that stayed open all might be one's.
_TURNS_A_CONNECTION = 10
_PAUSE_SECONDS = 0.04


class Callers:
    """Numbered visitors; a visitor who signs in is the user of the same number.

    What is sent and what is answered is in `sent_log`, by the shifted clock, and in `answers`, by
    status (None: no answer).
    """

    SITES = ("one.example.org", "another.example.org")

    def __init__(self, clock: ShiftedClock) -> None:
        self.sent_log = SentLog()
        self.answers: Counter[int | None] = Counter()
        self._clock = clock

    async def start(
        self, connection: Connection, who: Who, person: int, site: int
    ) -> tuple[Session, int | None]:
        """Starts a session; the answer's status."""
        now_us = self._clock.now_us()
        role = self._role(person)
        session = self.sent_log.add(now_us, who, self.SITES[site], person, person, role)
        session.start.sent(self._clock.now_us())
        token = self._token(person) if who is Who.USER else ""
        body = f'{{"id": "{uuid.UUID(bytes=session.id)}"}}'
        status = await self._ask(connection, "POST", "", session, token, body)
        session.start.answered(status, self._clock.now_us())
        return session, status

    async def upgrade(self, connection: Connection, session: Session) -> int | None:
        """Signs the visitor of a session in; the answer's status."""
        session.upgrade.sent(self._clock.now_us())
        path = f"/{uuid.UUID(bytes=session.id)}/upgrade"
        token = self._token(session.user)
        status = await self._ask(connection, "PATCH", path, session, token, "")
        session.upgrade.answered(status, self._clock.now_us())
        return status

    def hash_with(self, salt: bytes, session: Session, *, as_user: bool) -> bytes:
        """The `monthly_user_hash` of a session, from scratch."""
        if as_user:
            return Hasher(salt).user(session.site, f"user-{session.user}")
        network = IPv4Address(_address(session.visitor)).packed
        return Hasher(salt).visitor(session.site, network, FIREFOX)

    @staticmethod
    def _role(person: int) -> str:
        return ("user", "admin", "super_admin")[person % 3]

    def _token(self, person: int) -> str:
        claims = {
            "sub": f"user-{person}",
            "highest_role": self._role(person),
            # Longer than the clock of a collector in these tests is wrong.
            "exp": (self._clock.now_us() + 2 * DAY_US) // SECOND_US,
        }
        return jwt.encode(claims, JWT_KEY)

    async def _ask(
        self,
        connection: Connection,
        method: str,
        path: str,
        session: Session,
        token: str,
        body: str,
    ) -> int | None:
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        request = (
            f"{method} /web_api/v1/sessions{path} HTTP/1.1\r\n"
            f"Host: collector\r\nOrigin: https://{session.site}\r\n"
            f"X-Forwarded-For: {_address(session.visitor)}\r\n"
            f"User-Agent: {FIREFOX}\r\n{authorization}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )
        try:
            await connection.ready()
            status = (await connection.exchange(request.encode())).status
        except (NoAnswer, Unreachable):
            status = None
        self.answers[status] += 1
        return status


def _address(person: int) -> str:
    return f"198.18.{person // 256}.{person % 256}"


@dataclass
class Load:
    """Visitors and users who come to a collector until an instant, or until `stopped`."""

    callers: Callers
    clock: ShiftedClock
    url: str
    connections: int = 12
    stopped: bool = False

    async def run(self, boundary_us: int, until_us: int) -> None:
        """Some of them sign in after the instant `boundary_us`."""
        with connect(self.url, self.connections, 60.0) as connections:
            await asyncio.gather(
                *(
                    self._come_and_go(connection, index, boundary_us, until_us)
                    for index, connection in enumerate(connections)
                )
            )

    async def _come_and_go(
        self, connection: Connection, index: int, boundary_us: int, until_us: int
    ) -> None:
        """One of four signs in at once, one after the boundary, one never, one already has."""
        callers, signing_in_later = self.callers, list[Session]()
        turn = 0
        while not self.stopped and self.clock.now_us() < until_us:
            person = index * PEOPLE_A_CONNECTION + turn // 2 % PEOPLE_A_CONNECTION
            what = turn // (2 * PEOPLE_A_CONNECTION) % 4
            who = Who.USER if what == 3 else Who.VISITOR
            session, _ = await callers.start(connection, who, person, turn % 2)
            if what == 0:
                await callers.upgrade(connection, session)
            elif what == 1 and self.clock.now_us() < boundary_us:
                signing_in_later.append(session)
            if signing_in_later and self.clock.now_us() > boundary_us:
                await callers.upgrade(connection, signing_in_later.pop())
            turn += 1
            if turn % _TURNS_A_CONNECTION == 0:
                connection.close()
            await asyncio.sleep(_PAUSE_SECONDS)  # the pace of the visits
