"""Reads entries from the streams, and acknowledges them.

Each shard has its own command, so that the shards may be on different nodes. No command blocks: a
poll is one round trip to each server, for all of its shards.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from redis.exceptions import RedisError

from contract import keys
from contract.entry import count_records, split_entry
from contract.record import FIELD
from flusher.rows.batch import Entry
from flusher.stream.shards import ask, ask_one, find_shards, script
from runtime.periodic import Outage
from runtime.redis_client import retry_for
from runtime.redis_connection import Command
from runtime.shards import Shards, first_error

_ACKNOWLEDGED_AT_ONCE = 4000
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
        self._answered: set[int] = set()  # shards that have ever had the group
        self._claimed_up_to: dict[int, bytes] = {}
        self._unread: list[int] = []  # shards that could not be read last time
        self._outage = Outage("all shards are read again")
        # Whether some shard may have had more than the last `read` asked for.
        self.left_some = False

    async def find_shards(self) -> None:
        """Finds streams that are not known yet, to read them, too."""
        known, self.shards = self.shards, await find_shards(self.servers, self.shards)
        if new := sorted(set(self.shards) - set(known)):
            log.info("shards beyond STREAM_SHARDS were found: they are read, too", shards=new)

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
        # One script takes entries with the same number of records.
        ids: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)
        for shard, id_, record in entries:
            ids[shard, count_records(record)].append(id_)
        if not ids:
            return 0
        commands: defaultdict[int, list[Command]] = defaultdict(list)
        for (shard, records), alike in ids.items():
            for first in range(0, len(alike), _ACKNOWLEDGED_AT_ONCE):
                some = alike[first : first + _ACKNOWLEDGED_AT_ONCE]
                arguments: Command = (keys.GROUP, records, *some)
                joined = [keys.joined(shard)]
                commands[shard].append(script("acknowledge_entries.lua", shard, joined, *arguments))
        deleted = 0
        for replies in (await ask(self.servers, commands, "acknowledging")).values():
            refused = first_error(replies)
            if refused is not None:
                raise retry_for(refused, "acknowledging")
            deleted += sum(replies)
        return deleted

    async def split(self, entry: Entry) -> None:
        """Replaces an entry by one for each of its records, at the stream's end, in one step."""
        shard, joined = entry.shard, [keys.joined(entry.shard)]
        arguments: Command = (keys.GROUP, entry.id, FIELD, *split_entry(entry.record))
        command = script("split_entry.lua", shard, joined, *arguments)
        await ask_one(self.servers, shard, command, "splitting an entry")

    async def take_up_forgotten(self, shard: int) -> int:
        """Makes a shard's forgotten entries claimable: those that the group has delivered and that
        no consumer has. If their rows are already committed, they count as duplicates.

        Returns:
            The number of these entries.
        """
        arguments = (keys.GROUP, self._consumer, _EXAMINED, self._claim_ms)
        command = script("take_up_forgotten.lua", shard, (), *arguments)
        doing = "looking for forgotten entries"
        return int(await ask_one(self.servers, shard, command, doing))

    async def retire(self) -> None:
        """Removes this consumer, and dead ones, from the group, if nothing is pending for them."""
        arguments = (keys.GROUP, self._consumer, self._claim_ms * 60)
        for shard in self._answered:
            command = script("retire_consumer.lua", shard, (), *arguments)
            await ask_one(self.servers, shard, command, "leaving the consumer group")

    async def _ask_each(self, commands: Mapping[int, Command], doing: str) -> dict[int, Any]:
        """Sends one command for each shard; returns the replies of those that answer.

        Raises:
            Retry: no shard answers.
        """
        replies = await ask(
            self.servers, {shard: [each] for shard, each in commands.items()}, doing
        )
        if groupless := [shard for shard, (reply,) in replies.items() if _has_no_group(reply)]:
            replies |= await self._ask_creating_groups(
                {shard: commands[shard] for shard in groupless}, doing
            )
        answered, failed = {}, {}
        for shard, (reply,) in replies.items():
            if isinstance(reply, RedisError):
                failed[shard] = retry_for(reply, doing)
            else:
                answered[shard] = reply
        if failed and not answered:
            raise next(iter(failed.values()))
        self._answered.update(answered)
        self._log_unread(failed)
        return answered

    async def _ask_creating_groups(
        self, commands: Mapping[int, Command], doing: str
    ) -> dict[int, list[Any]]:
        """Creates the groups of these shards, which begin with the first entry, and sends their
        commands. Not done while there is a group: a full Redis would refuse that, too.
        """
        if gone := [shard for shard in commands if shard in self._answered]:
            log.warning(
                "the consumer group was gone and is created again",
                shards=gone,
                to_do="find out what removed it: an eviction, FLUSHALL, or the restore of a backup",
            )
        both: dict[int, list[Command]] = {
            shard: [("XGROUP", "CREATE", keys.stream(shard), keys.GROUP, "0", "MKSTREAM"), command]
            for shard, command in commands.items()
        }
        return {
            # Another flusher may have created it (BUSYGROUP). Any other error is the cause.
            shard: [created if _has_no_group(reply) else reply]
            for shard, (created, reply) in (await ask(self.servers, both, doing)).items()
        }

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


def _has_no_group(reply: object) -> bool:
    return isinstance(reply, RedisError) and str(reply).startswith("NOGROUP")


def _entries(shard: int, messages: Sequence[tuple[bytes, list[bytes] | None]]) -> list[Entry]:
    return [
        Entry(shard, id_, fields[1] if fields[0] == FIELD else _content(fields))
        for id_, fields in messages
        if fields is not None
    ]


def _content(fields: list[bytes]) -> bytes:
    # Without our field the content is empty, and the entry becomes a dead letter.
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(FIELD, b"")
