"""Step 1, and the last: entries out of the streams, and their acknowledgement.

Each shard is asked by a command of its own, so that the shards may lie on different nodes. No
command blocks: a poll is one round trip for all shards.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from operator import mul
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError, ResponseError

from contract import keys
from contract.entry import count_records, split_entry
from contract.errors import DeadLetter
from contract.record import FIELD
from flusher.entry import Entry
from flusher.shards import find_shards
from flusher.wire import Command, Wire
from process.buffer import Buffer, read_buffer
from process.redis_client import retry_for

_BURY = files("flusher").joinpath("bury_entry.lua").read_text()
_DIVIDE = files("flusher").joinpath("divide_entry.lua").read_text()
_RETIRE = files("flusher").joinpath("retire_consumer.lua").read_text()

# A shard's. What is beyond is a fault that goes on and on: its newest cases tell as much.
DEAD_LETTERS_KEPT = 10_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ShardLag:
    """How far behind a shard is. Times are the Redis server's, in milliseconds."""

    shard: int
    entries: int
    pending: int
    oldest_ms: int | None
    newest_ms: int | None


class StreamReader:
    """A consumer of the group `flusher` on all shards."""

    def __init__(self, redis: Redis, shards: int, consumer: str, claim_seconds: float) -> None:
        """
        Args:
            redis: the streams' server.
            shards: how many streams there are at least; `find_shards` finds others.
            consumer: this process's name in the group, unique among the living.
            claim_seconds: an entry that another consumer has held for longer is taken over. More
                than a flush may take, or it is done twice (which costs time, not correctness).
        """
        self._redis = redis
        self._shards: Sequence[int] = range(shards)
        self._consumer = consumer
        self._claim_ms = int(claim_seconds * 1000)
        self._claimed_up_to: dict[int, bytes] = {}
        self._wire = Wire(redis)
        # Whether some shard may have had more than the last `read` asked for.
        self.left_some = False
        self._bury_script = redis.register_script(_BURY)
        self._divide_script = redis.register_script(_DIVIDE)
        self._retire_script = redis.register_script(_RETIRE)

    async def find_shards(self) -> list[int]:
        """Takes on the streams that another number of shards has left; which are new.

        Raises:
            Retry: Redis does not answer.
        """
        known, self._shards = self._shards, await find_shards(self._redis, self._shards)
        return sorted(set(self._shards) - set(known))

    async def create_groups(self) -> None:
        """Makes the consumer group of each shard where it is missing, from the first entry on.

        Raises:
            Retry: Redis does not answer.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for shard in self._shards:
            pipeline.xgroup_create(keys.stream(shard), keys.GROUP, id="0", mkstream=True)
        for reply in await self._execute(pipeline, "creating the consumer group"):
            if isinstance(reply, RedisError) and not str(reply).startswith("BUSYGROUP"):
                raise retry_for(reply, "creating the consumer group")

    async def read(self, most: int) -> list[Entry]:
        """New entries: those that no consumer of the group has had. About `most`, evenly by shard.

        Raises:
            Retry: Redis does not answer.
        """
        each = max(1, most // len(self._shards))
        commands: list[Command] = [
            ("XREADGROUP", "GROUP", keys.GROUP, self._consumer, "COUNT", each, "STREAMS", key, ">")
            for key in map(keys.stream, self._shards)
        ]
        entries: list[Entry] = []
        self.left_some = False
        for shard, reply in zip(self._shards, await self._ask(commands, "reading"), strict=True):
            for _, messages in _pairs(await self._checked(reply)):
                entries += _entries(shard, messages)
                self.left_some |= len(messages) >= each
        return entries

    async def claim(self, most: int) -> list[Entry]:
        """Entries that another consumer has had for too long: it died, or is stuck.

        Raises:
            Retry: Redis does not answer.
        """
        each = max(1, most // len(self._shards))
        commands: list[Command] = [
            (
                *("XAUTOCLAIM", keys.stream(shard), keys.GROUP, self._consumer, self._claim_ms),
                *(self._claimed_up_to.get(shard, b"0-0"), "COUNT", each),
            )
            for shard in self._shards
        ]
        entries: list[Entry] = []
        for shard, reply in zip(self._shards, await self._ask(commands, "claiming"), strict=True):
            claimed = await self._checked(reply)
            if claimed:
                # One call looks at a part of what is pending; the next goes on from there.
                self._claimed_up_to[shard] = claimed[0]
                entries += _entries(shard, claimed[1])
        return entries

    async def acknowledge(self, entries: Iterable[Entry]) -> int:
        """Ends entries whose events are committed: acknowledged and deleted in one step a shard.

        Returns:
            How many records were ended by this call, and not by another flusher's that had them
            too.

        Raises:
            Retry: Redis does not answer; they will be read again, and found to be known.
        """
        by_shard: defaultdict[int, defaultdict[int, list[bytes]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for shard, id_, record in entries:
            by_shard[shard][count_records(record)].append(id_)
        if not by_shard:
            return 0
        commands: list[Command] = []
        for shard, by_records in by_shard.items():
            # All or nothing: an entry that is acknowledged but not deleted would stay for ever.
            commands.append(("MULTI",))
            ids = chain.from_iterable(by_records.values())
            commands.append(("XACK", keys.stream(shard), keys.GROUP, *ids))
            # Redis says how many, and not which: so those of one size together.
            commands += (("XDEL", keys.stream(shard), *ids) for ids in by_records.values())
            commands.append(("EXEC",))
        replies = await self._ask(commands, "acknowledging")
        refused = next((reply for reply in replies if isinstance(reply, RedisError)), None)
        if refused is not None:
            raise retry_for(refused, "acknowledging")
        done = (reply for reply in replies if isinstance(reply, list))
        ended = 0
        for by_records, (_, *deleted) in zip(by_shard.values(), done, strict=True):
            # Who deletes an entry ended it: a group that was made anew has not given it to anybody
            # yet, and acknowledges nothing.
            ended += sum(map(mul, by_records, deleted))
        return ended

    async def bury(self, entry: Entry, why: DeadLetter) -> tuple[bool, int]:
        """Moves an entry to its shard's dead letters, with the reason, in one step.

        Returns:
            Whether it was still there, and not ended by another flusher; and how many of the
            oldest dead letters had to make room: `DEAD_LETTERS_KEPT` are kept.

        Raises:
            Retry: Redis does not answer, or is full.
        """
        try:
            found, dropped = await self._bury_script(
                keys=[keys.stream(entry.shard), keys.dead_letters(entry.shard)],
                args=[
                    keys.GROUP,
                    entry.id,
                    FIELD,
                    why.reason,
                    str(why),
                    DEAD_LETTERS_KEPT,
                ],
            )
        except RedisError as error:
            raise retry_for(error, "setting a dead letter aside") from None
        return bool(found), int(dropped)

    async def divide(self, entry: Entry) -> None:
        """Replaces an entry by one for each of its records, at the stream's end, in one step.

        Raises:
            Retry: Redis does not answer, or is full.
        """
        try:
            await self._divide_script(
                keys=[keys.stream(entry.shard)],
                args=[keys.GROUP, entry.id, FIELD, *split_entry(entry.record)],
            )
        except RedisError as error:
            raise retry_for(error, "dividing an entry") from None

    async def retire(self) -> None:
        """Takes this consumer, and those long gone, off the group, if nothing is pending for them.

        Raises:
            Retry: Redis does not answer.
        """
        try:
            for shard in self._shards:
                await self._retire_script(
                    keys=[keys.stream(shard)],
                    args=[keys.GROUP, self._consumer, self._claim_ms * 60],
                )
        except RedisError as error:
            raise retry_for(error, "leaving the consumer group") from None

    async def lag(self) -> tuple[list[ShardLag], int]:
        """Each shard's lag, and the server's clock in milliseconds.

        Raises:
            Retry: Redis does not answer.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for shard in self._shards:
            stream = keys.stream(shard)
            pipeline.xlen(stream)
            pipeline.xpending(stream, keys.GROUP)
            pipeline.xrange(stream, count=1)
            pipeline.xrevrange(stream, count=1)
        pipeline.time()
        replies = await self._execute(pipeline, "measuring the lag")
        lags = []
        for number, shard in enumerate(self._shards):
            entries, pending, oldest, newest = replies[number * 4 : number * 4 + 4]
            if isinstance(pending, ResponseError):
                pending = {"pending": 0}  # no group yet: nothing was ever read
            lags.append(
                ShardLag(shard, entries, pending["pending"], _first_ms(oldest), _first_ms(newest))
            )
        seconds, microseconds = replies[-1]
        return lags, seconds * 1000 + microseconds // 1000

    async def count_dead_letters(self) -> list[int]:
        """How many each shard has, in the order of `lag`.

        Raises:
            Retry: Redis does not answer.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for shard in self._shards:
            pipeline.xlen(keys.dead_letters(shard))
        return [int(count) for count in await self._execute(pipeline, "counting dead letters")]

    async def buffer(self, at: float) -> Buffer:
        """The streams' memory, now: `at`, of any steady clock, in seconds.

        Raises:
            Retry: Redis does not answer.
        """
        return await read_buffer(self._redis, at)

    async def _ask(self, commands: list[Command], doing: str) -> list[Any]:
        try:
            return await self._wire.ask(commands)
        except RedisError as error:
            raise retry_for(error, doing) from None

    async def _execute(self, pipeline: Pipeline, doing: str) -> list[Any]:
        try:
            return await pipeline.execute(raise_on_error=False)
        except RedisError as error:
            raise retry_for(error, doing) from None

    async def _checked(self, reply: Any) -> Any:
        if not isinstance(reply, RedisError):
            return reply
        if str(reply).startswith("NOGROUP"):
            # Evicted, flushed or restored without it. From the first entry on: what was
            # written before is found to be known.
            log.warning(
                "the consumer group was gone: made anew",
                to_do="see what took it: an eviction, a FLUSHALL, a restore of an old backup",
            )
            await self.create_groups()
            return None
        raise retry_for(reply, "reading")


def _pairs(reply: Any) -> Iterable[tuple[Any, Any]]:
    """What RESP3 has as a map and RESP2 as a list of pairs; None is empty."""
    return reply.items() if isinstance(reply, dict) else reply or ()


def _entries(shard: int, messages: Sequence[tuple[bytes, list[bytes] | None]]) -> list[Entry]:
    return [
        Entry(shard, id_, fields[1] if fields[0] == FIELD else _content(fields))
        for id_, fields in messages
        if fields is not None
    ]


def _content(fields: list[bytes]) -> bytes:
    # An entry without our field is kept, to be set aside as undecodable like any other.
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(FIELD, b"")


def _first_ms(messages: Sequence[tuple[bytes, object]]) -> int | None:
    return int(messages[0][0].partition(b"-")[0]) if messages else None
