"""A connection to Redis that answers as a test says."""

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.exceptions import ExecAbortError, RedisError

from contract.entry import split_entry
from runtime.redis_connection import RedisConnection, Take
from tests.appending import parse_commands


class ScriptedConnection(RedisConnection):
    """Answers each write with the next item of its script: an error of the whole write, or errors
    of some of its records. Then it accepts all.
    """

    def __init__(self) -> None:
        self.script: list[Exception | Mapping[bytes, RedisError]] = []
        self.commands: list[bytes] = []  # their names
        self.batches: list[list[bytes]] = []  # the records of each write
        self.entries: list[list[bytes]] = []
        self.gate = asyncio.Event()  # a write waits for it
        self.gate.set()

    def close(self) -> None:
        """Nothing is open."""

    async def exchange(self, commands: bytes, count: int, take: Take | None = None) -> list[Any]:
        sent = parse_commands(commands)
        self.commands += [name for name, *_ in sent]
        entries = [list(split_entry(words[-1])) for words in sent if words[0] == b"XADD"]
        self.entries += entries
        self.batches.append([record for entry in entries for record in entry])
        await self.gate.wait()
        errors = self.script.pop(0) if self.script else {}
        if isinstance(errors, Exception):
            raise errors
        replies: list[Any] = []
        for name in self.commands[-len(sent) :]:
            if name == b"XADD":
                refused = [errors[record] for record in entries.pop(0) if record in errors]
                replies.append(refused[0] if refused else b"1-0")
            elif name == b"EXEC":
                replies.append(ExecAbortError("discarded") if refused else [b"1-0", 1])
            else:
                replies.append(b"OK")
        assert len(replies) == count
        if take is not None:
            take(replies)
        return replies
