"""Checks the contract's two equations of metrics, over every life of every process.

    received = accepted + ignored + rejected + failed
    accepted = written + duplicate + dead + still in the streams

The first holds within each collector, so it is checked each time that the metrics are read. The
second spans processes. A process that is killed loses what it has counted since its metrics were
last read. An upper bound for that is measured from outside: the answers that the client got in
between, and the records that left the streams.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bench.load.sender import Tally
from contract import keys
from contract.settings import STREAM_SHARDS
from embedded.system import Program, eventually

_READ_SECONDS = 1.0
_STORED = (201, 202)


class Unbalanced(AssertionError):
    """An equation does not hold."""


@dataclass(frozen=True, slots=True)
class _Life:
    """A process since its start: its metrics at their last reading, and what was known then."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    stored: int = 0  # requests whose answer promised a row
    left: int = 0  # as `Balance._left`


@dataclass(frozen=True, slots=True)
class Balanced:
    """The second equation's two sides, and by how much they may differ."""

    accepted: int  # by all collectors
    ended: int  # written, duplicate or dead, by all flushers
    buffered: int  # still in the streams
    accepted_unseen: int  # the most that killed collectors accepted since their last reading
    ended_unseen: int  # the most that killed flushers wrote since their last reading
    unanswered: int  # the most that was stored or written, but not counted, for want of an answer

    @property
    def holds(self) -> bool:
        more = self.ended + self.buffered - self.accepted
        return -self.ended_unseen <= more <= self.accepted_unseen + self.unanswered


class Balance:
    """Reads the metrics of processes while they run, and adds them up at the end."""

    def __init__(self, tally: Tally, redis: Redis, connections: int) -> None:
        """`tally` and `connections` are the client's. `redis` is the server of the streams."""
        self._tally = tally
        self._redis = redis
        self._connections = connections
        self._lives: dict[int, _Life] = {}  # by the id() of the program
        self._counted: Counter[str] = Counter()  # of lives that are over
        self._accepted_unseen = 0
        self._ended_unseen = 0
        self._reading = asyncio.Lock()  # held while Redis is asked
        self._buffered = 0  # records in the streams, as Redis last answered
        # Requests that had been sent then, less these records. Each accepted request makes one
        # record. So between two readings at most as many records leave the streams as this grows,
        # and one for each connection, whose request was under way at the first.
        self._left = 0
        self._left_before: list[int] = []  # of flushers that have ended since

    async def look(self, program: Program) -> None:
        """Reads what a process has counted, if it answers.

        Raises:
            Unbalanced: the first equation does not hold in it.
        """
        process = program.running
        await self._ask_redis()
        stored, left = self._stored(), self._left
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(_READ_SECONDS):
                metrics = await program.metrics()
            _check_received(program, metrics)
            if program.running is process and process.poll() is None:
                self._lives[id(program)] = _Life(metrics, stored, left)

    async def gone(self, program: Program) -> None:
        """Notes that a process has ended, before it is started again."""
        life = self._lives.get(id(program), _Life())
        # Its last answers may still be in our sockets: some turns of the event loop read them.
        for _ in range(3):
            await asyncio.sleep(0)
        self._counted.update(_counts(life.metrics))
        if program.module == "collector":
            # And one request of each connection without an answer, which counts twice: it may
            # have been counted as accepted, or as unanswered by Redis.
            unseen = self._stored() - life.stored
            self._accepted_unseen += unseen + 2 * self._connections
        elif program.module == "flusher":
            self._left_before.append(life.left)
        await self._ask_redis()
        self._lives[id(program)] = _Life({}, self._stored(), self._left)

    async def balance(self, programs: Iterable[Program]) -> Balanced:
        """The second equation, when nothing is sent any more and all processes answer.

        Raises:
            Unbalanced: the first equation does not hold in one of them.
        """
        counted = self._counted.copy()
        for program in programs:
            metrics = await program.metrics()
            _check_received(program, metrics)
            counted.update(_counts(metrics))
        await eventually(self._ask_redis)  # after a kill, an old connection fails once
        return Balanced(
            accepted=counted["accepted"],
            ended=counted["written"] + counted["duplicate"] + counted["dead"],
            buffered=self._buffered,
            accepted_unseen=self._accepted_unseen,
            ended_unseen=self._ended_unseen,
            unanswered=counted["append_unanswered"] + counted["acknowledge_unanswered"],
        )

    def _stored(self) -> int:
        return sum(self._tally.statuses[status] for status in _STORED)

    async def _ask_redis(self) -> bool:
        """Counts the records in the streams and those that have left; whether Redis answers."""
        try:
            async with asyncio.timeout(_READ_SECONDS), self._reading:
                ended = len(self._left_before)  # before Redis is asked
                sent, buffered = self._tally.sent, 0
                for shard in range(STREAM_SHARDS.read({})):
                    async with self._redis.pipeline() as pipeline:  # a transaction: one instant
                        pipeline.xlen(keys.stream(shard))
                        pipeline.get(keys.joined(shard))
                        entries, joined = await pipeline.execute()
                    buffered += entries + int(joined or 0)
                left = self._tally.sent - buffered + self._connections
                self._ended_unseen += sum(left - before for before in self._left_before[:ended])
                del self._left_before[:ended]
                self._left, self._buffered = sent - buffered, buffered
        except (RedisError, OSError, TimeoutError):
            return False
        return True


def total(metrics: Mapping[str, float], *names: str) -> int:
    """The sum of counters over their labels; names without `impact_` and `_total`."""
    wanted = {f"impact_{name}_total" for name in names}
    return int(sum(value for name, value in metrics.items() if name.partition("{")[0] in wanted))


def _counts(metrics: Mapping[str, float]) -> dict[str, int]:
    names = ("accepted", "written", "duplicate", "dead")
    unanswered = ("append_unanswered", "acknowledge_unanswered")
    return {name: total(metrics, name) for name in (*names, *unanswered)}


def _check_received(program: Program, metrics: Mapping[str, float]) -> None:
    received = total(metrics, "requests")
    ended = total(metrics, "accepted", "ignored", "rejected", "failed")
    if received != ended:
        raise Unbalanced(f"{program.module}: {received} received, {ended} accounted for")
