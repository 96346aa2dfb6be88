"""Sends visits over connections, and writes every request and its answer into the sent log."""

import asyncio
import math
import time
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bench.load.client import Connection, NoAnswer
from bench.load.people import People, Plan, Upgrade, Visit, role_of
from bench.load.request_builder import RequestBuilder, TokenSigner
from bench.load.sent_log import Request, SentLog, Session, id_text
from runtime.clock import wall_clock

# Some repeats and upgrades are sent this long after their session: then the flusher has them in
# another batch. At the end, those that are left are sent at once.
_LATER_SECONDS = 1.5
_REPEATS_LATER = 2  # every second one is sent later
_UPGRADES_LATER = 10  # every tenth


@dataclass(slots=True)
class Tally:
    """Counts requests by their answers. Latencies in seconds, of those that were answered."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    no_answer: int = 0
    visits: int = 0
    latencies: "array[float]" = field(default_factory=lambda: array("f"))
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        """The figures, for a table."""
        statuses = {str(status): count for status, count in sorted(self.statuses.items())}
        return {"sent": self.sent, **statuses, "no answer": self.no_answer}

    def times(self) -> dict[str, float]:
        """Answers a second, and percentiles of their latencies."""
        ordered = sorted(self.latencies) or [math.nan]
        times = {
            f"p{percent}_seconds": ordered[len(ordered) * percent // 100] for percent in (50, 99)
        }
        times["per_second"] = self.statuses.total() / (self.seconds or math.nan)
        return {name: round(value, 6) for name, value in times.items()}


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request of a session, and its bytes."""

    session: Session
    request: Request
    octets: bytes


class Sender:
    """Sends the visits of a plan; `tally` and `sent_log` are up to date at any moment."""

    def __init__(
        self,
        connections: Sequence[Connection],
        plan: Plan,
        signer: TokenSigner,
        per_second: float = math.inf,
    ) -> None:
        """Each connection has one visit at a time. At most `per_second` are started a second."""
        self.tally = Tally()
        self.sent_log = SentLog()
        people = People(plan, self.sent_log.tag)
        self._connections = connections
        self._visits = people.visits()
        self._builder = RequestBuilder(people, signer, urlsplit(connections[0].url).netloc)
        self._interval = 1 / per_second
        self._next = 0.0  # when the next visit starts
        self._later: deque[tuple[float, _Prepared]] = deque()  # with when it is due
        self._stopping = False

    def stop(self) -> None:
        """Begins no more visits, and sends nothing that was to be sent later."""
        self._stopping = True

    async def run(self) -> None:
        """Sends all visits, or until `stop`.

        Raises:
            Unreachable: no connection could be made.
        """
        started = time.perf_counter()
        running = [asyncio.create_task(self._serve(each)) for each in self._connections]
        try:
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            self.tally.seconds += time.perf_counter() - started

    async def first(self, visits: int) -> None:
        """Sends the next few visits, one after the other.

        Raises:
            Unreachable: no connection could be made.
        """
        for _ in range(visits):
            await self._visit(self._connections[0], next(self._visits))

    async def _serve(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping:
            if self._later and self._later[0][0] <= loop.time():
                await self._ask(connection, self._later.popleft()[1])
                continue
            visit = next(self._visits, None)
            if visit is None:
                break
            await self._turn()
            if not self._stopping:
                await self._visit(connection, visit)
        while self._later and not self._stopping:
            await self._ask(connection, self._later.popleft()[1])

    async def _turn(self) -> None:
        """Spreads the visits evenly over time; one that is late catches up."""
        now = asyncio.get_running_loop().time()
        mine = self._next or now
        self._next = mine + self._interval
        if mine > now:
            await asyncio.sleep(mine - now)

    async def _visit(self, connection: Connection, visit: Visit) -> None:
        session = self.sent_log.add(
            wall_clock(), visit.who, visit.site, visit.visitor, visit.user, role_of(visit.user)
        )
        start = _Prepared(session, session.start, self._builder.start(visit, session.id))
        upgrade = None
        if visit.upgrade is not Upgrade.NONE:
            octets = self._builder.upgrade(visit, session.id)
            upgrade = _Prepared(session, session.upgrade, octets)
        if upgrade is not None and visit.upgrade is Upgrade.OVERTAKING:
            await self._ask(connection, upgrade)
        status = await self._ask(connection, start)
        # If it is not known that this session is stored, `current` may mean another one.
        clear = visit.upgrade is Upgrade.BY_ID or status == 201
        if upgrade is not None and visit.upgrade is not Upgrade.OVERTAKING and clear:
            await self._now_or_later(connection, upgrade, _UPGRADES_LATER)
        if visit.repeats_start:
            await self._now_or_later(connection, start, _REPEATS_LATER)
        if upgrade is not None and visit.repeats_upgrade:
            await self._now_or_later(connection, upgrade, _REPEATS_LATER)
        self.tally.visits += 1

    async def _now_or_later(self, connection: Connection, prepared: _Prepared, one_in: int) -> None:
        if prepared.session.id[-1] % one_in:
            await self._ask(connection, prepared)
        else:
            due = asyncio.get_running_loop().time() + _LATER_SECONDS
            self._later.append((due, prepared))

    async def _ask(self, connection: Connection, prepared: _Prepared) -> int | None:
        """Sends a request; the status of its answer, or None: there was no answer."""
        tally = self.tally
        await connection.ready()
        prepared.request.sent(wall_clock())
        tally.sent += 1
        began = time.perf_counter()
        status: int | None = None
        try:
            answer = await connection.exchange(prepared.octets)
            status = answer.status
        except NoAnswer:
            tally.no_answer += 1
            return None
        finally:
            # Also if this task is cancelled: the request may have arrived.
            prepared.request.answered(status, wall_clock())
        tally.latencies.append(time.perf_counter() - began)
        tally.statuses[status] += 1
        if status == 201 and id_text(prepared.session.id).encode() not in answer.body:
            self.sent_log.misjudged["201 that names another session"] += 1
        return status
