"""Reads entries from the streams, and acknowledges them.

Each shard has its own command, so that the shards may be on different nodes. No command blocks: a
poll is one round trip to each server, for all of its shards.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from redis.exceptions import RedisError

from contract import keys
from contract.entry import split_entry
from contract.errors import DeadLetter
from contract.record import FIELD
from flusher.rows.entry import Entry
from flusher.stream.scripts import acknowledge_entries, run_script
from flusher.stream.shards import ask, ask_one, find_shards
from runtime.periodic import Outage
from runtime.redis_client import retry_for
from runtime.redis_connection import Command
from runtime.shards import Shards, first_error

# For each shard. More of them come from a fault that lasts, and the newest ones show it as well.
DEAD_LETTERS_KEPT = 10_000
# How many of a shard's oldest entries are examined, to find those that no consumer has.
_EXAMINED = 1000

log = structlog.get_logger()


class StreamReader:
    """A consumer of the group `flusher` on all shards.

    Its methods raise Retry if Redis does not answer, or is full.
    """

    def __init__(self, shards: Shards, consumer: str, claim_seconds: float) -> None:
        """
        Args:
            shards: the configured ones; `find_shards` finds others.
            consumer: the name in the group, unique among running processes.
            claim_seconds: entries that another consumer has had for longer are taken over. It must
                be longer than a batch takes; otherwise work is done twice (but counted once).
        """
        self.servers = shards
        self.shards: Sequence[int] = range(shards.count)  # the known ones
        self._consumer = consumer
        self._claim_ms = int(claim_seconds * 1000)
        self._claimed_up_to: dict[int, bytes] = {}
        self._unread: list[int] = []  # shards that could not be read last time
        self._outage = Outage("all shards are read again")
        # Whether some shard may have had more than the last `read` asked for.
        self.left_some = False

    async def find_shards(self) -> list[int]:
        """Finds streams beyond the configured ones, and reads them, too; returns the new ones."""
        known, self.shards = self.shards, await find_shards(self.servers, self.shards)
        return sorted(set(self.shards) - set(known))

    async def create_groups(self, shards: Iterable[int] | None = None) -> None:
        """Creates missing consumer groups, by default of all shards. They begin with the first
        entry.
        """
        doing = "creating the consumer group"
        commands = {
            shard: [("XGROUP", "CREATE", keys.stream(shard), keys.GROUP, "0", "MKSTREAM")]
            for shard in (self.shards if shards is None else shards)
        }
        for (reply,) in (await ask(self.servers, commands, doing)).values():
            if isinstance(reply, RedisError) and not str(reply).startswith("BUSYGROUP"):
                raise retry_for(reply, doing)

    async def read(self, most: int) -> list[Entry]:
        """Entries that no consumer of the group has had, about `most`, evenly from the shards."""
        each = max(1, most // len(self.shards))
        group = ("XREADGROUP", "GROUP", keys.GROUP, self._consumer, "COUNT", each)
        replies = await self._ask_each(
            {shard: (*group, "STREAMS", keys.stream(shard), ">") for shard in self.shards},
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
        """Entries that another consumer has had for too long, because it has died or is stuck."""
        each = max(1, most // len(self.shards))
        replies = await self._ask_each(
            {
                shard: (
                    *("XAUTOCLAIM", keys.stream(shard), keys.GROUP, self._consumer, self._claim_ms),
                    *(self._claimed_up_to.get(shard, b"0-0"), "COUNT", each),
                )
                for shard in self.shards
            },
            "claiming",
        )
        entries: list[Entry] = []
        for shard, claimed in replies.items():
            if claimed:
                # A call examines a part of the pending entries. The next one continues there.
                self._claimed_up_to[shard] = claimed[0]
                entries += _entries(shard, claimed[1])
        return entries

    async def acknowledge(self, entries: Iterable[Entry]) -> int:
        """Acknowledges and deletes entries whose events are committed, in one step for each shard.

        Returns:
            How many records this call has deleted, and not another flusher that also had them.
        """
        commands = acknowledge_entries(entries)
        if not commands:
            return 0
        deleted = 0
        for replies in (await ask(self.servers, commands, "acknowledging")).values():
            refused = first_error(replies)
            if refused is not None:
                raise retry_for(refused, "acknowledging")
            deleted += sum(replies)
        return deleted

    async def dead_letter(self, entry: Entry, why: DeadLetter) -> tuple[bool, int]:
        """Moves an entry to its shard's dead letters, in one step.

        Returns:
            Whether it was still there (another flusher may have deleted it); and how many of the
            oldest dead letters were deleted, because only `DEAD_LETTERS_KEPT` are kept.
        """
        shard, letters = entry.shard, [keys.dead_letters(entry.shard)]
        arguments = (keys.GROUP, entry.id, FIELD, why.reason, str(why), DEAD_LETTERS_KEPT)
        command = run_script("dead_letter_entry.lua", shard, letters, *arguments)
        doing = "setting a dead letter aside"
        found, dropped = await ask_one(self.servers, shard, command, doing)
        return bool(found), int(dropped)

    async def split(self, entry: Entry) -> None:
        """Replaces an entry by one for each of its records, at the stream's end, in one step."""
        shard, joined = entry.shard, [keys.joined(entry.shard)]
        arguments: Command = (keys.GROUP, entry.id, FIELD, *split_entry(entry.record))
        command = run_script("split_entry.lua", shard, joined, *arguments)
        await ask_one(self.servers, shard, command, "splitting an entry")

    async def take_up_forgotten(self, shard: int) -> int:
        """Makes a shard's forgotten entries claimable: those that the group has delivered and that
        no consumer has. If their rows are already committed, they count as duplicates.

        Returns:
            The number of these entries.
        """
        arguments = (keys.GROUP, self._consumer, _EXAMINED, self._claim_ms)
        command = run_script("take_up_forgotten.lua", shard, (), *arguments)
        doing = "looking for forgotten entries"
        return int(await ask_one(self.servers, shard, command, doing))

    async def retire(self) -> None:
        """Removes this consumer, and dead ones, from the group, if nothing is pending for them."""
        arguments = (keys.GROUP, self._consumer, self._claim_ms * 60)
        for shard in self.shards:
            command = run_script("retire_consumer.lua", shard, (), *arguments)
            await ask_one(self.servers, shard, command, "leaving the consumer group")

    async def _ask_each(self, commands: Mapping[int, Command], doing: str) -> dict[int, Any]:
        """Sends one command for each shard; returns the replies of those that answer.

        Raises:
            Retry: no shard answers.
        """
        replies = await ask(
            self.servers, {shard: [each] for shard, each in commands.items()}, doing
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
        self._log_unread(failed)
        if groupless:
            # The new group begins with the first entry. What was written before is a duplicate.
            log.warning(
                "the consumer group was gone and was created again",
                shards=groupless,
                to_do="find out what removed it: an eviction, FLUSHALL, or the restore of a backup",
            )
            await self.create_groups(groupless)
        return answered

    def _log_unread(self, failed: Mapping[int, Exception]) -> None:
        """Logs which shards have to wait, while the others are read."""
        if list(failed) == self._unread:
            return
        self._unread = list(failed)
        if failed:
            self._outage.fails()
            log.warning(
                "some shards have to wait",
                shards=self._unread,
                why=str(next(iter(failed.values()))),
                to_do="nothing is lost; check that the servers of these shards are up",
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
    # Without our field the content is empty, and the entry becomes a dead letter.
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(FIELD, b"")
