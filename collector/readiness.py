"""Whether this collector is to be sent requests, found out while nobody asks.

Every few seconds Redis is asked to write something of no meaning, as durably as a session, how full
it is, and whether a restart would keep what is written: a collector without traffic has no other
way to know. Where a restart would lose sessions, none is accepted.

A check that fails says: send the requests to other collectors. What is wrong with a server that all
of them share is a warning, as soon as this one has shown that it is set up right: there is no
better collector then, and a front-end that is answered 503 knows when to try again
(`docs/decisions/0013-ready-without-redis.md`).
"""

import asyncio
import math
from contextlib import suppress
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

from collector.buffer.append import Appender
from collector.buffer.durability import WAIT_UNTIL_DURABLE, Durability, why_not_durable
from contract import keys
from contract.errors import Retry
from runtime.buffer import read_buffer
from runtime.periodic import repeat
from runtime.redis_client import retry_for
from runtime.redis_promises import REPLAY_TO_DO
from runtime.redis_replay import STREAM_WRITES, Survival, survival
from runtime.service_manager import Beat
from runtime.shards import Shards, first_error
from runtime.stopping import Stopping
from salt.month import MonthlySalt

PROBE_SECONDS: Final = 5.0
# A probe and the wait for its answer, and another: what is older than this is no evidence.
_RECENT_SECONDS: Final = 15.0
# Above this share of Redis's memory it is time to say so, before sessions are refused.
BUFFER_MARK: Final = 0.95
_PROBE_LIVES_SECONDS: Final = 60
_NOT_YET: Final = "it was not looked at yet"
_FORGETS: Final = (
    "a restart of Redis would lose sessions: its user default lacks rights, with which it reads "
    "its append-only file"
)

log = structlog.get_logger()


class Readiness:
    """Probes Redis. Use `run` as a task for as long as the checks may be asked."""

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
        self._buffer_fails: str | None = _NOT_YET
        self._restart_fails: str | None = _NOT_YET
        self._may_ask_of_restart = True
        # It has written, and had the salt: so its settings are right, whatever fails from then on.
        self._proven = False

    def checks(self) -> dict[str, str | None]:
        """What keeps requests away from it, by name, with what is wrong."""
        self._prove()
        shared = {} if self._proven else self._of_shared_servers()
        return {
            **shared,
            "restart": self._restart_fails,
            "draining": "asked to stop" if self._stopping.asked else None,
        }

    def warnings(self) -> dict[str, str | None]:
        """What is only shown, likewise."""
        self._prove()
        shared = self._of_shared_servers() if self._proven else {}
        return {**shared, "buffer": self._buffer_fails}

    async def run(self, beat: Beat) -> None:
        """Probes until asked to stop; `beat` is called at each turn."""

        async def turn() -> None:
            beat()
            await self.probe()

        await repeat(turn, self._stopping, PROBE_SECONDS)

    async def probe(self) -> None:
        """One look."""
        await self.look_at_restart()
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
        self._prove()

    def _prove(self) -> None:
        self._proven = self._proven or not any(self._of_shared_servers().values())

    def _of_shared_servers(self) -> dict[str, str | None]:
        return {
            "write": self._write_check(),
            "salt": None if self._salt.is_current() else "no salt of this month",
            "clocks": self._salt.clock_doubt,
            "calendar": self._salt.calendar_doubt,
        }

    async def look_at_restart(self) -> None:
        """Looks whether a restart of the servers keeps sessions; holds the appender where not.

        To be done before the first request: until a server has answered once, nothing is accepted.
        Where none answers later, what was found before goes on being true.
        """
        if not self._may_ask_of_restart:
            return
        found = await self._survivals()
        # `runtime.redis_promises` warns of it. Asked again and again, it would fill the ACL's log.
        self._may_ask_of_restart = found != {Survival.UNKNOWN}
        if Survival.DROPPED in found:
            log.error("no session is accepted", why=_FORGETS, to_do=REPLAY_TO_DO)
            self._restart_fails = _FORGETS
            self._appender.hold(Retry("redis_forgets", _FORGETS))
        elif found:
            if self._restart_fails == _FORGETS:
                log.info("sessions are accepted again: a restart of Redis keeps them")
            self._restart_fails = None
            self._appender.hold(None)
        elif self._restart_fails == _NOT_YET:
            self._appender.hold(Retry("redis_away", "Redis has not answered yet"))

    async def _survivals(self) -> set[Survival]:
        """What a restart does to writes, on those servers that answer."""
        found: set[Survival] = set()
        try:
            servers = await self._shards.servers()
        except RedisError:
            return found  # the other checks say so
        for server in servers.values():
            with suppress(Retry):
                found.add(await survival(server, STREAM_WRITES))
        return found

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
                        *WAIT_UNTIL_DURABLE[self._durability],
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
