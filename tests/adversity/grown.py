"""The system under load on servers that fail over: a Redis Cluster, a replicated PostgreSQL.

As in `rig`, every answer is reconciled with the rows at the end. Of the metrics' second equation
only one side holds after a failover: what a replica had not heard of was ended, counted, and is
ended and counted again.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

from redis.asyncio import Redis, RedisCluster

from bench.chaos.balance import Balance, Balanced
from bench.load.reconcile import settle
from bench.load.sender import Sender
from bench.load.sent_log import SentLog
from contract import keys
from tests.adversity.rig import CLAIM_SECONDS, CONNECTIONS, SITES, load
from tests.system import Program, System, eventually, run_command

_SHARDS = 8


@dataclass
class Grown:
    """What runs, and the load upon it."""

    system: System
    redis: Redis | RedisCluster
    sender: Sender
    collectors: list[Program]
    flushers: list[Program]
    rotation: Program
    ledger: Balance
    sent_log: SentLog
    reports: str  # the DSN whose rows are reconciled

    async def sends(self, visits: int = 60) -> None:
        """Waits until so many more visits were made."""
        goal = self.sender.tally.visits + visits

        async def made() -> int:
            return self.sender.tally.visits

        await eventually(made, lambda count: count >= goal)

    async def kill(self, program: Program) -> None:
        """SIGKILL; what it had counted since it was looked at is gone."""
        await self.ledger.look(program)
        program.kill()
        await self.ledger.gone(program)

    def statuses(self) -> set[int]:
        """Every status that any answer had."""
        return set(self.sender.tally.statuses)

    async def buffered(self) -> int:
        """How many entries are in the streams."""
        return sum([int(await self.redis.xlen(keys.stream(shard))) for shard in range(_SHARDS)])

    async def balance(self) -> Balanced:
        return await self.ledger.balance(
            program for program in self.system.programs if program.running.poll() is None
        )


@asynccontextmanager
async def grown(
    folder: Path,
    redis: Redis | RedisCluster,
    redis_url: str,
    dsn: str,
    settings: Mapping[str, str],
    *,
    collectors: int = 1,
    sites: tuple[str, ...] = SITES,
) -> AsyncIterator[Grown]:
    """The system under load; reconciled when the block ends without an error.

    Args:
        folder: for the logs.
        redis: a client that is not ours, of the streams' servers; closed at the end.
        redis_url: of the streams' servers.
        dsn: of the database.
        settings: of all processes.
        collectors: how many, sharing a port.
        sites: whose visits are sent.
    """
    extra = {"FLUSH_CLAIM_SECONDS": str(CLAIM_SECONDS), **settings}
    with System(redis_url, dsn, folder, extra) as system:
        code, _, errors = await run_command("flusher", "migrate", **system.environment)
        assert code == 0, errors
        rotation, *others = await system.start("rotation", *["collector"] * collectors)
        flushers = await system.start("flusher", "flusher")
        async with load(system, sites=sites) as (sender, sent_log, driving):
            # What it asks, a cluster's client answers just so.
            ledger = Balance(sender.tally, cast(Redis, redis), CONNECTIONS)
            rig = Grown(system, redis, sender, others, flushers, rotation, ledger, sent_log, dsn)
            try:
                await rig.sends(20)
                yield rig
                await rig.sends(20)
                sender.stop()
                await driving
                differences = await settle(sent_log, rig.reports, ZoneInfo("UTC"), 60)
                logs = system.logs
                assert differences.exact, f"{differences.reasons} {differences.examples}\n{logs}"
                await eventually(rig.buffered, lambda entries: entries == 0)
                for shard in range(_SHARDS):
                    assert not await redis.xlen(keys.dead_letters(shard)), "no outage makes one"
                assert "Traceback" not in logs
                balanced = await rig.balance()
                more = balanced.ended + balanced.buffered - balanced.accepted
                assert balanced.accepted > 0
                assert -balanced.ended_unseen <= more, balanced
            finally:
                await redis.aclose()
