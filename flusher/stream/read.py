"""Reads entries from the streams, and acknowledges them.

Each shard has its own command, so that the shards may be on different nodes. No command blocks: a
poll is one round trip to each server for all of its shards.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from redis.exceptions import RedisError

from contract import keys
from contract.errors import DeadLetter
from contract.record import FIELD
from flusher.rows.entry import Entry
from flusher.stream import scripts
from flusher.stream.shards import ask, find_shards
from runtime.outage import Outage
from runtime.redis_client import retry_for
from runtime.redis_connection import Command
from runtime.shards import Shards, first_error

# A shard's. What is beyond is a fault that goes on and on: its newest cases tell as much.
DEAD_LETTERS_KEPT = 10_000

log = structlog.get_logger()


class StreamReader:
    """A consumer of the group `flusher` on all shards."""

    def __init__(self, shards: Shards, consumer: str, claim_seconds: float) -> None:
        """
        Args:
            shards: the streams; `find_shards` finds more than are configured.
            consumer: this process's name in the group, unique among running processes.
            claim_seconds: entries that another consumer has held for longer are taken over. It must
                be longer than a batch takes; otherwise work is done twice (but counted once).
        """
        self._servers = shards
        self._shards: Sequence[int] = range(shards.count)
        self._consumer = consumer
        self._claim_ms = int(claim_seconds * 1000)
        self._claimed_up_to: dict[int, bytes] = {}
        self._silent: list[int] = []  # shards that could not be read last time
        self._outage = Outage("all shards are read again")
        # Whether some shard may have had more than the last `read` asked for.
        self.left_some = False

    async def find_shards(self) -> list[int]:
        """Also reads streams that an earlier number of shards has left; returns the new ones.

        Raises:
            Retry: Redis does not answer.
        """
        known, self._shards = self._shards, await find_shards(self._servers, self._shards)
        return sorted(set(self._shards) - set(known))

    async def create_groups(self) -> None:
        """Creates missing consumer groups, which begin with the first entry.

        Raises:
            Retry: Redis does not answer.
        """
        await self._create_groups(self._shards)

    async def _create_groups(self, shards: Iterable[int]) -> None:
        replies = await ask(
            self._servers,
            {
                shard: [("XGROUP", "CREATE", keys.stream(shard), keys.GROUP, "0", "MKSTREAM")]
                for shard in shards
            },
            "creating the consumer group",
        )
        for (reply,) in replies.values():
            if isinstance(reply, RedisError) and not str(reply).startswith("BUSYGROUP"):
                raise retry_for(reply, "creating the consumer group")

    async def read(self, most: int) -> list[Entry]:
        """New entries, which no consumer of the group has had. About `most`, evenly by shard.

        Raises:
            Retry: Redis does not answer.
        """
        each = max(1, most // len(self._shards))
        group = ("XREADGROUP", "GROUP", keys.GROUP, self._consumer, "COUNT", each)
        replies = await self._ask_each(
            {shard: (*group, "STREAMS", keys.stream(shard), ">") for shard in self._shards},
            "reading",
        )
        entries: list[Entry] = []
        self.left_some = False
        for shard, reply in replies.items():
            for _, messages in reply or ():  # none: there is nothing new
                entries += _entries(shard, messages)
                self.left_some |= len(messages) >= each
        return entries

    async def claim(self, most: int) -> list[Entry]:
        """Entries that another consumer has had for too long, because it died or is stuck.

        Raises:
            Retry: Redis does not answer.
        """
        each = max(1, most // len(self._shards))
        replies = await self._ask_each(
            {
                shard: (
                    *("XAUTOCLAIM", keys.stream(shard), keys.GROUP, self._consumer, self._claim_ms),
                    *(self._claimed_up_to.get(shard, b"0-0"), "COUNT", each),
                )
                for shard in self._shards
            },
            "claiming",
        )
        entries: list[Entry] = []
        for shard, claimed in replies.items():
            if claimed:
                # One call looks at a part of what is pending; the next goes on from there.
                self._claimed_up_to[shard] = claimed[0]
                entries += _entries(shard, claimed[1])
        return entries

    async def acknowledge(self, entries: Iterable[Entry]) -> int:
        """Acknowledges and deletes entries whose events are committed, in one step for each shard.

        Returns:
            How many records this call has deleted, and not another flusher that also had them.

        Raises:
            Retry: Redis does not answer; they will be read again, and count as duplicates.
        """
        commands = scripts.acknowledge_entries(entries)
        ended = 0
        for replies in (
            await ask(self._servers, commands, "acknowledging") if commands else {}
        ).values():
            refused = first_error(replies)
            if refused is not None:
                raise retry_for(refused, "acknowledging")
            ended += sum(replies)
        return ended

    async def dead_letter(self, entry: Entry, why: DeadLetter) -> tuple[bool, int]:
        """Moves an entry to its shard's dead letters, with the reason, in one step.

        Returns:
            Whether it was still there, and not deleted by another flusher; and how many of the
            oldest dead letters were deleted for it: `DEAD_LETTERS_KEPT` are kept.

        Raises:
            Retry: Redis does not answer, or is full.
        """
        command = scripts.dead_letter_entry(entry, why, DEAD_LETTERS_KEPT)
        found, dropped = await self._run(entry.shard, command, "setting a dead letter aside")
        return bool(found), int(dropped)

    async def split(self, entry: Entry) -> None:
        """Replaces an entry by one for each of its records, at the stream's end, in one step.

        Raises:
            Retry: Redis does not answer, or is full.
        """
        await self._run(entry.shard, scripts.split_entry_command(entry), "splitting an entry")

    async def take_up_forgotten(self, shard: int) -> int:
        """Makes a shard's entries claimable again that count as read, but that no consumer has.

        If their rows are already committed, they count as duplicates, like any entry that is read
        twice.

        Returns:
            The number of these entries.

        Raises:
            Retry: Redis does not answer.
        """
        command = scripts.take_up_forgotten(shard, self._consumer, self._claim_ms)
        return int(await self._run(shard, command, "looking for forgotten entries"))

    async def retire(self) -> None:
        """Removes this consumer, and dead ones, from the group, if nothing is pending for them.

        Raises:
            Retry: Redis does not answer.
        """
        for shard in self._shards:
            command = scripts.retire_consumer(shard, self._consumer, self._claim_ms * 60)
            await self._run(shard, command, "leaving the consumer group")

    @property
    def servers(self) -> Shards:
        """Where they are."""
        return self._servers

    @property
    def shards(self) -> Sequence[int]:
        """Those that are known."""
        return self._shards

    async def _run(self, shard: int, command: Command, doing: str) -> Any:
        ((reply,),) = (await ask(self._servers, {shard: [command]}, doing)).values()
        if isinstance(reply, RedisError):
            raise retry_for(reply, doing)
        return reply

    async def _ask_each(self, commands: Mapping[int, Command], doing: str) -> dict[int, Any]:
        """Sends one command for each shard; returns the replies of those that answer.

        Raises:
            Retry: no shard answers.
        """
        replies = await ask(
            self._servers, {shard: [each] for shard, each in commands.items()}, doing
        )
        answered, failed, groupless = {}, {}, []
        for shard, (reply,) in replies.items():
            if not isinstance(reply, RedisError):
                answered[shard] = reply
            elif str(reply).startswith("NOGROUP"):
                groupless.append(shard)
            else:
                failed[shard] = retry_for(reply, doing)
        if failed and not answered:
            raise next(iter(failed.values()))
        self._tell_of(failed)
        if groupless:
            # Evicted, flushed or restored without it. From the first entry on: what was
            # written before is found to be known.
            log.warning(
                "the consumer group was gone and was created again",
                shards=groupless,
                to_do="see what took it: an eviction, a FLUSHALL, a restore of an old backup",
            )
            await self._create_groups(groupless)
        return answered

    def _tell_of(self, failed: Mapping[int, Exception]) -> None:
        """Logs which shards have to wait, while the others are read."""
        if list(failed) == self._silent:
            return
        self._silent = list(failed)
        if failed:
            self._outage.fails()
            why = str(next(iter(failed.values())))
            log.warning(
                "some shards have to wait",
                shards=self._silent,
                why=why,
                to_do="nothing is lost; see that the servers of these shards are up",
            )
        else:
            self._outage.works()


def _entries(shard: int, messages: Sequence[tuple[bytes, list[bytes] | None]]) -> list[Entry]:
    return [
        Entry(shard, id_, fields[1] if fields[0] == FIELD else _content(fields))
        for id_, fields in messages
        if fields is not None
    ]


def _content(fields: list[bytes]) -> bytes:
    # An entry without our field is kept, to be set aside as undecodable like any other.
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(FIELD, b"")
