"""Whether this collector can do its work, found out while nobody asks.

Every few seconds Redis is asked to write something of no meaning, as durably as a session, and how
full it is: a collector without traffic has no other way to know.
"""

import asyncio
import math
from typing import Any, Final

from redis.exceptions import RedisError

from collector.append import Appender
from collector.monthly_salt import MonthlySalt
from collector.node_writer import Durability, why_not_durable
from contract import keys
from contract.errors import Retry
from process.buffer import read_buffer
from process.redis_client import retry_for
from process.service_manager import Beat
from process.shards import Shards, first_error
from process.stopping import Stopping
from process.wire import Command

PROBE_SECONDS: Final = 5.0
# A probe and the wait for its answer, and another: what is older than this is no evidence.
_RECENT_SECONDS: Final = 15.0
# Above this share of Redis's memory, the load balancer is told before sessions are refused.
BUFFER_MARK: Final = 0.95
_PROBE_LIVES_SECONDS: Final = 60
_DURABLE_MS: Final = 3000
_WAIT_UNTIL_DURABLE: Final[dict[Durability, list[Command]]] = {
    Durability.SERVER: [],
    Durability.FSYNC: [("WAITAOF", 1, 0, _DURABLE_MS)],
    Durability.REPLICA: [("WAIT", 1, _DURABLE_MS)],
}


class Readiness:
    """Probes Redis. Use `run` as a task for as long as `failed_checks` may be asked."""

    def __init__(
        self,
        shards: Shards,
        appender: Appender,
        salt: MonthlySalt,
        durability: Durability,
        stopping: Stopping,
    ) -> None:
        self._shards = shards
        self._appender = appender
        self._salt = salt
        self._durability = durability
        self._stopping = stopping
        self._last_write = -math.inf
        self._write_fails: str | None = "nothing was written yet"
        self._buffer_fails: str | None = "it was not looked at yet"

    def failed_checks(self) -> dict[str, str | None]:
        """Every check by name, with what is wrong."""
        return {
            "write": self._write_check(),
            "salt": None if self._salt.is_current() else "no salt of this month",
            "buffer": self._buffer_fails,
            "draining": "asked to stop" if self._stopping.asked else None,
        }

    async def run(self, beat: Beat) -> None:
        """Probes until asked to stop; `beat` is called at each turn."""
        while not self._stopping.asked:
            beat()
            await self.probe()
            await self._stopping.wait(PROBE_SECONDS)

    async def probe(self) -> None:
        """One look."""
        try:
            await self._write()
            self._write_fails = None
            self._last_write = asyncio.get_running_loop().time()
        except Retry as error:
            self._write_fails = str(error)
        try:
            self._buffer_fails = _fullness((await read_buffer(self._shards, 0)).used_ratio)
        except Retry as error:
            self._buffer_fails = str(error)

    def _write_check(self) -> str | None:
        if self._write_fails is not None:
            return self._write_fails
        failing_since = self._appender.failing_since
        if failing_since is not None and failing_since > self._last_write:
            return "the last session could not be written"
        age = asyncio.get_running_loop().time() - self._last_write
        return None if age < _RECENT_SECONDS else "no write has succeeded recently"

    async def _write(self) -> None:
        """Writes to each server that has shards; one that takes it is enough."""
        try:
            replies = await self._shards.ask(
                {
                    shard: [
                        ("SET", keys.probe(shard), b"", "EX", _PROBE_LIVES_SECONDS),
                        *_WAIT_UNTIL_DURABLE[self._durability],
                    ]
                    for shard in await self._shards.servers()
                }
            )
        except RedisError as error:
            raise retry_for(error, "writing a probe") from None
        failures = [self._why_not(of_server) for of_server in replies.values()]
        if failures and None not in failures:
            raise next(filter(None, failures))

    def _why_not(self, replies: list[Any]) -> Retry | None:
        refused = first_error(replies)
        if refused is not None:
            return retry_for(refused, "writing a probe")
        return None if self._durability is Durability.SERVER else why_not_durable(replies[-1])


def _fullness(used_ratio: float) -> str | None:
    if used_ratio < BUFFER_MARK:
        return None
    return f"Redis's memory is {used_ratio:.0%} full: the flushers are behind, or it is too small"
