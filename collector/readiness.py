"""Whether this collector should get requests; it is checked even without traffic.

Every few seconds the collector writes a probe to Redis, as durably as a session, and reads how full
Redis is and whether a restart would keep sessions. If a restart would lose them, it accepts none.

If a check fails, a load balancer should send requests to other collectors. A fault of a server that
all collectors share is only a warning, once this collector has shown that its settings are right.
No other collector would do better, and front-ends that are answered 503 know when to try again
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
from runtime.redis_checks import REPLAY_TO_DO
from runtime.redis_client import retry_for
from runtime.redis_replay import STREAM_WRITES, Survival, survival
from runtime.service_manager import Beat
from runtime.shards import Shards, first_error
from runtime.stopping import Stopping
from salt.month import MonthlySalt

PROBE_SECONDS: Final = 5.0
# Two probes and the wait for their answers.
_RECENT_SECONDS: Final = 15.0
# It warns above this share of Redis's memory, before sessions are refused.
BUFFER_MARK: Final = 0.95
_PROBE_LIVES_SECONDS: Final = 60
_NOT_YET: Final = "not checked yet"
_LOSES_SESSIONS: Final = (
    "a restart of Redis would lose sessions: its user default lacks the rights to replay the "
    "append-only file"
)

log = structlog.get_logger()


class Readiness:
    """Probes Redis. Run `run` as a task."""

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
        self._write_fails: str | None = "nothing written yet"
        self._buffer_fails: str | None = _NOT_YET
        self._restart_fails: str | None = _NOT_YET
        self._may_ask_about_restart = True
        # All checks of shared servers have succeeded at some time, so the settings are right.
        self._proven = False

    def checks(self) -> dict[str, str | None]:
        """The checks that decide whether it is ready: for each the problem, or None."""
        shared = self._shared_servers()
        return {
            **({} if self._proven else shared),
            "restart": self._restart_fails,
            "draining": "asked to stop" if self._stopping.asked else None,
        }

    def warnings(self) -> dict[str, str | None]:
        """Problems that an operator should know, in the same form."""
        shared = self._shared_servers()
        return {**(shared if self._proven else {}), "buffer": self._buffer_fails}

    async def run(self, beat: Beat) -> None:
        """Probes until asked to stop, and calls `beat` each time."""

        async def turn() -> None:
            beat()
            await self.probe()

        await repeat(turn, self._stopping, PROBE_SECONDS)

    async def probe(self) -> None:
        await self.check_restart()
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
        self._shared_servers()

    def _shared_servers(self) -> dict[str, str | None]:
        problems = {
            "write": self._write_check(),
            "salt": None if self._salt.is_current() else "no salt of this month",
            "clocks": self._salt.clock_doubt,
            "calendar": self._salt.calendar_doubt,
        }
        self._proven = self._proven or not any(problems.values())
        return problems

    async def check_restart(self) -> None:
        """Checks whether a restart of the servers keeps sessions; if not, no session is accepted.

        Call it before the first request: no session is accepted until a server has answered. If
        none answers later, the last result stays valid.
        """
        if not self._may_ask_about_restart:
            return
        found = await self._survivals()
        # UNKNOWN: rights are missing (`runtime.redis_checks` warns). Trying again would only fill
        # the ACL log.
        self._may_ask_about_restart = found != {Survival.UNKNOWN}
        if Survival.DROPPED in found:
            log.error("no session is accepted", why=_LOSES_SESSIONS, to_do=REPLAY_TO_DO)
            self._restart_fails = _LOSES_SESSIONS
            self._appender.held = Retry("redis_forgets", _LOSES_SESSIONS)
        elif found:
            if self._restart_fails == _LOSES_SESSIONS:
                log.info("sessions are accepted again: a restart of Redis keeps them")
            self._restart_fails = None
            self._appender.held = None
        elif self._restart_fails == _NOT_YET:
            self._appender.held = Retry("redis_away", "Redis has not answered yet")

    async def _survivals(self) -> set[Survival]:
        """What a restart does to writes, on the servers that answer."""
        found: set[Survival] = set()
        try:
            servers = await self._shards.servers()
        except RedisError:
            return found  # the other checks show the problem
        for server in servers.values():
            with suppress(Retry):
                found.add(await survival(server, STREAM_WRITES))
        return found

    def _write_check(self) -> str | None:
        if self._write_fails is not None:
            return self._write_fails
        failing_since = self._appender.writer.failing_since
        if failing_since is not None and failing_since > self._last_write:
            return "the last session could not be written"
        age = asyncio.get_running_loop().time() - self._last_write
        return None if age < _RECENT_SECONDS else "no write has succeeded recently"

    async def _write(self) -> None:
        """Writes to each server that has shards. One of them must accept the write.

        Raises:
            Retry: none did.
        """
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
        failures = [self._why_failed(of_server) for of_server in replies.values()]
        if failures and None not in failures:
            raise next(filter(None, failures))

    def _why_failed(self, replies: list[Any]) -> Retry | None:
        refused = first_error(replies)
        if refused is not None:
            return retry_for(refused, "writing a probe")
        return None if self._durability is Durability.SERVER else why_not_durable(replies[-1])


def _fullness(used_ratio: float) -> str | None:
    if used_ratio < BUFFER_MARK:
        return None
    return f"Redis's memory is {used_ratio:.0%} full: the flushers are behind, or it is too small"
