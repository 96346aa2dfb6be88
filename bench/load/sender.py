"""Visits through connections, with every request and its answer written down."""

import asyncio
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.load.client import Client, Connection, NoAnswer
from bench.load.people import Upgrade, Visit
from bench.load.request_builder import RequestBuilder, id_text
from bench.load.sent_log import SentLog
from runtime.clock import wall_clock

# What a visit does later (a repeat, a late sign-in) comes after as many seconds: in another batch
# of the flusher's than what it follows. In the end, what is left comes at once.
LATER_SECONDS = 1.5
_REPEATS_LATER = 2  # one in so many; the others at once
_UPGRADES_LATER = 10


@dataclass(slots=True)
class Tally:
    """Requests, by what became of them. Latencies in seconds, of what was answered."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    no_answer: int = 0
    visits: int = 0
    latencies: "array[float]" = field(default_factory=lambda: array("f"))
    seconds: float = 0.0

    def percentile(self, percent: float) -> float:
        """The latency, in seconds, that so many per cent of the answers did not exceed."""
        if not self.latencies:
            return float("nan")
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    @property
    def per_second(self) -> float:
        """Answered requests a second."""
        return self.statuses.total() / self.seconds if self.seconds else float("nan")


class Pace:
    """Lets so many a second pass, evenly; one that is behind catches up."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._next: float | None = None

    async def turn(self) -> None:
        """Returns when it is the caller's turn."""
        now = asyncio.get_running_loop().time()
        mine = now if self._next is None else self._next
        self._next = mine + self._interval
        if mine > now:
            await asyncio.sleep(mine - now)


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request of a session; both the first time and when it is repeated."""

    number: int
    is_upgrade: bool
    request: bytes


class Sender:
    """Sends visits; `tally` and `sent_log` are up to date at any moment."""

    def __init__(
        self,
        client: Client,
        visits: Iterator[Visit],
        builder: RequestBuilder,
        sent_log: SentLog,
        per_second: float | None = None,
    ) -> None:
        """
        Args:
            client: its connections; each has one visit at a time.
            visits: who come; taken as connections become free.
            builder: makes the requests.
            sent_log: where they are written down.
            per_second: visits started a second at most; None: as fast as answers come.
        """
        self.tally = Tally()
        self._client = client
        self._visits = visits
        self._builder = builder
        self._sent_log = sent_log
        self._pace = Pace(per_second) if per_second else None
        self._later: deque[tuple[float, _Ask]] = deque()  # when it is due, in the loop's time
        self._stopping = False

    def stop(self) -> None:
        """Begins no more visits, and nothing that was to come later."""
        self._stopping = True

    async def run(self) -> None:
        """Sends all there is, or until `stop`.

        Raises:
            Unreachable: no connection could be made. What was sent until then is in `sent_log`.
        """
        started = time.perf_counter()
        running = [asyncio.create_task(self._serve(connection)) for connection in self._client]
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
        connection = next(iter(self._client))
        for _ in range(visits):
            await self._visit(connection, next(self._visits))

    async def _serve(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping:
            if self._later and self._later[0][0] <= loop.time():
                await self._ask(connection, self._later.popleft()[1])
                continue
            visit = next(self._visits, None)
            if visit is None:
                break
            if self._pace is not None:
                await self._pace.turn()
            if not self._stopping:
                await self._visit(connection, visit)
        while self._later and not self._stopping:
            await self._ask(connection, self._later.popleft()[1])

    async def _visit(self, connection: Connection, visit: Visit) -> None:
        number = self._sent_log.session(
            visit.who, visit.site, visit.visitor, visit.user, wall_clock()
        )
        session_id = self._sent_log.id_of(number)
        start = _Ask(number, is_upgrade=False, request=self._builder.start(visit, session_id))
        upgrade = None
        if visit.upgrade is not Upgrade.NONE:
            request = self._builder.upgrade(visit, session_id)
            upgrade = _Ask(number, is_upgrade=True, request=request)
        if upgrade is not None and visit.upgrade is Upgrade.OVERTAKING:
            await self._ask(connection, upgrade)
        status = await self._ask(connection, start)
        # Unless its session is known to be there, nobody knows what `current` means.
        clear = visit.upgrade is Upgrade.BY_ID or status == 201
        if upgrade is not None and visit.upgrade is not Upgrade.OVERTAKING and clear:
            await self._now_or_later(connection, upgrade, _UPGRADES_LATER)
        if visit.repeats_start:
            await self._now_or_later(connection, start, _REPEATS_LATER)
        if upgrade is not None and visit.repeats_upgrade:
            await self._now_or_later(connection, upgrade, _REPEATS_LATER)
        self.tally.visits += 1

    async def _now_or_later(self, connection: Connection, ask: _Ask, one_in: int) -> None:
        if ask.number % one_in:
            await self._ask(connection, ask)
        else:
            due = asyncio.get_running_loop().time() + LATER_SECONDS
            self._later.append((due, ask))

    async def _ask(self, connection: Connection, ask: _Ask) -> int | None:
        """Sends a request and writes it down; its status, or None: there was no answer."""
        sent_log, tally = self._sent_log, self.tally
        sent, answered = (
            (sent_log.upgrade_sent, sent_log.upgrade_answered)
            if ask.is_upgrade
            else (sent_log.start_sent, sent_log.start_answered)
        )
        await connection.ready()
        sent(ask.number, wall_clock())
        tally.sent += 1
        began = time.perf_counter()
        try:
            answer = await connection.exchange(ask.request)
        except (NoAnswer, asyncio.CancelledError) as error:
            answered(ask.number, None, wall_clock())
            tally.no_answer += 1
            if isinstance(error, asyncio.CancelledError):
                raise
            return None
        tally.latencies.append(time.perf_counter() - began)
        tally.statuses[answer.status] += 1
        answered(ask.number, answer.status, wall_clock())
        if answer.status == 201 and id_text(sent_log.id_of(ask.number)).encode() not in answer.body:
            sent_log.misjudged["201 that names another session"] += 1
        return answer.status
