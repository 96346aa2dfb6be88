"""The whole system under load on servers of its own, whose parts a test may break.

At its end every answer is reconciled with the rows, and the metrics with each other.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from bench.chaos.balance import Balance, Balanced
from bench.load.client import connect
from bench.load.people import Plan
from bench.load.reconcile import settle
from bench.load.request_builder import TokenSigner
from bench.load.sender import Sender
from contract import keys
from contract.settings import STREAM_SHARDS
from embedded.cluster import Cluster
from embedded.postgres import PostgresServer
from embedded.valkey import ValkeyServer
from tests.adversity.breakable_proxy import BreakableProxy
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres
from tests.system import Program, System, eventually, run_successfully, until

FINE = {201, 202, 204}
SITES = ("a.example.org", "b.example.org")
# Without it a killed primary takes with it what its replica has not received.
DURABLE = {"APPEND_DURABILITY": "replica"}
_CLAIM_SECONDS = 3
_VISITS = 100_000  # more than any test sends
_RATE = 100.0
_SHARDS = range(STREAM_SHARDS.read({}))
_CONNECTIONS = 8


@dataclass
class Rig:
    """What a test may break, and the load upon it.

    `valkey`, `postgres` and `proxy` are there where `running` has started them.
    """

    system: System
    redis: Redis | RedisCluster
    sender: Sender
    ledger: Balance
    collectors: list[Program]
    flushers: list[Program]
    reports: str  # the DSN of the database whose rows are reconciled
    valkey: ValkeyServer = field(init=False)
    postgres: PostgresServer = field(init=False)
    proxy: BreakableProxy = field(init=False)

    async def kill(self, program: Program) -> None:
        """SIGKILL; what it has counted since the last look at its metrics is lost."""
        await self.ledger.look(program)
        program.kill()
        await self.ledger.gone(program)

    async def stop(self, program: Program) -> int:
        """SIGTERM; its exit code."""
        await self.ledger.look(program)
        program.running.terminate()
        return await self.ended(program)

    async def ended(self, program: Program) -> int:
        """Waits for the end of a process that was asked to stop; its exit code."""
        code = await program.exit_code()
        await self.ledger.gone(program)
        return code

    async def balance(self) -> Balanced:
        """Both equations of the metrics, over all processes.

        Raises:
            Unbalanced: the first does not hold in a collector.
        """
        return await self.ledger.balance(
            program for program in self.system.programs if program.running.poll() is None
        )

    async def sends(self, visits: int = 60) -> None:
        """Waits until so many more visits were made."""
        goal = self.sender.tally.visits + visits
        await until(lambda: self.sender.tally.visits >= goal)

    async def entries(self) -> int:
        """How many entries are in the streams."""
        return sum([int(await self.redis.xlen(keys.stream(shard))) for shard in _SHARDS])

    async def joined(self) -> int:
        """How many more records than entries are in the streams: under load they share entries."""
        return sum([int(await self.redis.get(keys.joined(shard)) or 0) for shard in _SHARDS])

    async def buffered(self) -> int:
        """How many records are in the streams."""
        return await self.entries() + await self.joined()

    def statuses(self) -> set[int]:
        """Every status that any answer had."""
        return set(self.sender.tally.statuses)


@asynccontextmanager
async def running(
    folder: Path,
    *,
    proxied: str = "",
    valkey_config: Mapping[str, str] | None = None,
    collectors: int = 1,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Rig]:
    """The system under load, on a Valkey and a PostgreSQL.

    Args:
        folder: for the servers' data and the logs.
        proxied: whose connection goes through a proxy: `collector-redis`, `flusher-redis` or
            `flusher-postgres`.
        valkey_config: beside `appendfsync always`: killed in between, `everysec` may lose what
            it had put off writing.
        collectors: how many share a port.
        settings: of all processes.
    """
    config = {"appendfsync": "always", **(valkey_config or {})}
    valkey = ValkeyServer(folder / "valkey", config=config)
    postgres = CopiedPostgres(folder / "postgres", settings=POSTGRES_SETTINGS)
    with valkey, postgres:
        module, _, server = proxied.partition("-")
        target, name, url = (
            (postgres.port, "DATABASE_URL", postgres.dsn())
            if server == "postgres"
            else (valkey.port, "REDIS_URL", valkey.url)
        )
        async with BreakableProxy(target) as proxy:
            through = {name: url.replace(f":{target}", f":{proxy.port}")}
            async with under_load(
                folder / "logs",
                valkey.url,
                postgres.dsn(),
                settings,
                collectors=collectors,
                of_module={module: through},
                fails_over=False,
            ) as rig:
                rig.valkey, rig.postgres, rig.proxy = valkey, postgres, proxy
                yield rig


@asynccontextmanager
async def under_load(
    folder: Path,
    redis_url: str,
    dsn: str,
    settings: Mapping[str, str] | None = None,
    *,
    cluster: Cluster | None = None,
    collectors: int = 1,
    sites: tuple[str, ...] = SITES,
    of_module: Mapping[str, Mapping[str, str]] | None = None,
    fails_over: bool = True,
) -> AsyncIterator[Rig]:
    """The system under load on given servers; reconciled when the block ends without an error.

    `settings` are those of all processes, `of_module` those of one kind. `cluster` is the one that
    `redis_url` leads to. `fails_over`: a replica may take a primary's place. What it had not
    received is acknowledged and counted again, so that of the metrics' second equation only one
    side holds.
    """
    extra = {"FLUSH_CLAIM_SECONDS": str(_CLAIM_SECONDS), **(settings or {})}
    redis: Redis | RedisCluster
    if cluster:
        redis = RedisCluster(host="127.0.0.1", port=cluster.servers[-1].port)
    else:  # tries again while Redis restarts
        redis = Redis.from_url(redis_url, retry=Retry(ConstantBackoff(0.05), 100))
    with System(redis_url, dsn, folder, extra) as system:
        await run_successfully("flusher", "migrate", **system.environment)
        modules = ("rotation", *["collector"] * collectors, "flusher", "flusher")
        own = of_module or {}
        started = [system.program(each, **own.get(each, {})).start() for each in modules]
        await asyncio.gather(*(program.ready() for program in started))
        signer = TokenSigner({"JWT_KEY": system.environment["JWT_KEY"]})
        plan = Plan(sites, _VISITS, upgraded_percent=20)
        with connect(system.url, _CONNECTIONS, keep_going=True) as connections:
            sender = Sender(connections, plan, signer, _RATE)
            # A cluster's client has the commands that are used here.
            ledger = Balance(sender.tally, cast(Redis, redis), _CONNECTIONS)
            rig = Rig(system, redis, sender, ledger, started[1:-2], started[-2:], dsn)
            sending = asyncio.create_task(sender.run())
            try:
                await rig.sends(20)
                yield rig
                await rig.sends(20)
                sender.stop()
                await sending
                await _reconcile(rig, fails_over=fails_over)
            finally:
                sender.stop()
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                await redis.aclose()


@asynccontextmanager
async def on_cluster(
    folder: Path,
    dsn: str,
    settings: Mapping[str, str] | None = None,
    *,
    collectors: int = 1,
    sites: tuple[str, ...] = SITES,
) -> AsyncIterator[tuple[Rig, Cluster]]:
    """The system under load on a Redis Cluster, in which each primary has a replica."""
    with Cluster(folder / "cluster") as cluster:
        await cluster.form()
        async with under_load(
            folder / "logs",
            cluster.url,
            dsn,
            {"REDIS_CLUSTER": "1", **(settings or {})},
            cluster=cluster,
            collectors=collectors,
            sites=sites,
        ) as rig:
            yield rig, cluster


async def _reconcile(rig: Rig, *, fails_over: bool) -> None:
    # Then no row can come any more.
    await eventually(rig.entries if fails_over else rig.buffered, lambda left: left == 0)
    differences = await settle(
        rig.sender.sent_log, rig.reports, ZoneInfo("UTC"), 60, aftermath_seconds=0
    )
    logs = rig.system.logs
    assert differences.exact, f"{differences.reasons} {differences.examples}\n{logs}"
    for shard in _SHARDS:
        assert not await rig.redis.xlen(keys.dead_letters(shard)), "an outage makes no dead letter"
    assert "Traceback" not in logs

    def holds(balanced: Balanced) -> bool:
        more = balanced.ended + balanced.buffered - balanced.accepted
        return balanced.holds or (fails_over and more >= -balanced.ended_unseen)

    # A row is there a moment before it is counted.
    balanced = await eventually(rig.balance, holds)
    assert balanced.accepted > 0


async def seconds_pass(seconds: float) -> None:
    """For faults that take their time, during which there is nothing to observe."""
    began = time.monotonic()
    await until(lambda: time.monotonic() - began > seconds)
