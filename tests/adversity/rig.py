"""The whole system under load on servers of its own, whose parts a test may break.

At its end every answer is reconciled with the rows, and the metrics with each other.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

from redis.asyncio import Redis

from bench.chaos.balance import Balance, Balanced
from bench.load.client import Address, Client
from bench.load.people import People, role_of
from bench.load.reconcile import settle
from bench.load.request_builder import RequestBuilder, TokenSigner
from bench.load.sender import Sender
from bench.load.sent_log import SentLog
from contract import keys
from contract.settings import STREAM_SHARDS
from embedded.postgres import PostgresServer
from embedded.valkey import ValkeyServer
from runtime.redis_client import connect_redis
from tests.adversity.breakable_proxy import BreakableProxy
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres
from tests.system import Program, System, eventually, run_command

CLAIM_SECONDS = 3
SITES = ("a.example.org", "b.example.org")
_VISITS = 100_000  # more than any test sends
_RATE = 100.0
_SHARDS = range(STREAM_SHARDS.read({}))
CONNECTIONS = 8


@dataclass
class Rig:
    """What a test may break, and the load upon it."""

    system: System
    valkey: ValkeyServer
    postgres: PostgresServer
    redis: Redis
    sender: Sender
    collectors: list[Program]
    flushers: list[Program]
    ledger: Balance
    proxies: dict[str, BreakableProxy] = field(default_factory=dict)

    @property
    def proxy(self) -> BreakableProxy:
        """The one proxy that there is."""
        (proxy,) = self.proxies.values()
        return proxy

    async def look(self, program: Program) -> None:
        """Takes down what it has counted: to be done before it ends."""
        await self.ledger.look(program)

    async def kill(self, program: Program) -> None:
        """SIGKILL; what it had counted since it was looked at is gone."""
        await self.look(program)
        program.kill()
        await self.ledger.gone(program)

    async def stop(self, program: Program) -> int:
        """SIGTERM; its exit code."""
        await self.look(program)
        program.running.terminate()
        return await self.ended(program)

    async def ended(self, program: Program) -> int:
        """Waits for the end of a process that was asked to stop; its exit code."""
        code = await program.exit_code()
        await self.ledger.gone(program)
        return code

    async def balance(self) -> Balanced:
        """Both equations, over all that ran.

        Raises:
            Unbalanced: the first does not hold in a collector.
        """
        return await self.ledger.balance(
            program for program in self.system.programs if program.running.poll() is None
        )

    async def sends(self, visits: int = 60) -> None:
        """Waits until so many more visits were made."""
        goal = self.sender.tally.visits + visits

        async def made() -> int:
            return self.sender.tally.visits

        await eventually(made, lambda count: count >= goal)

    async def buffered(self) -> int:
        """How many records are in the streams: under load they share entries."""
        entries = [int(await self.redis.xlen(keys.stream(shard))) for shard in _SHARDS]
        joined = [int(await self.redis.get(keys.joined(shard)) or 0) for shard in _SHARDS]
        return sum(entries + joined)

    async def dead_letters(self) -> int:
        return sum([int(await self.redis.xlen(keys.dead_letters(shard))) for shard in _SHARDS])

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
    """The system under load; reconciled exactly when the block ends without an error.

    Args:
        folder: for the servers' data and the logs.
        proxied: whose connection goes through a proxy: `collector-redis`, `flusher-redis` or
            `flusher-postgres`.
        valkey_config: beside `appendfsync always`: killed in between, `everysec` may lose what
            it had put off writing.
        collectors: how many, sharing a port.
        settings: of all processes.
    """
    valkey = ValkeyServer(
        folder / "valkey", config={"appendfsync": "always", **(valkey_config or {})}
    )
    postgres = CopiedPostgres(folder / "postgres", settings=POSTGRES_SETTINGS)
    with valkey, postgres:
        extra = {"FLUSH_CLAIM_SECONDS": str(CLAIM_SECONDS), **(settings or {})}
        with System(valkey.url, postgres.dsn(), folder / "logs", extra) as system:
            code, _, errors = await run_command("flusher", "migrate", **system.environment)
            assert code == 0, errors
            proxies: dict[str, BreakableProxy] = {}
            async with (
                BreakableProxy(valkey.port) as redis_wire,
                BreakableProxy(postgres.port) as postgres_wire,
            ):
                collector_settings, flusher_settings = {}, {}
                if proxied == "collector-redis":
                    proxies[proxied] = redis_wire
                    collector_settings["REDIS_URL"] = _through(redis_wire, system.redis_url)
                elif proxied == "flusher-redis":
                    proxies[proxied] = redis_wire
                    flusher_settings["REDIS_URL"] = _through(redis_wire, system.redis_url)
                elif proxied == "flusher-postgres":
                    proxies[proxied] = postgres_wire
                    flusher_settings["DATABASE_URL"] = _through(postgres_wire, system.database_url)
                rotation = system.program("rotation").start()
                started = [
                    system.program("collector", **collector_settings).start()
                    for _ in range(collectors)
                ]
                flushers = [system.program("flusher", **flusher_settings).start() for _ in range(2)]
                await asyncio.gather(*(p.ready() for p in (rotation, *started, *flushers)))
                async with load(system) as (sender, sent_log, driving):
                    redis, redis_of_ledger = connect_redis(valkey.url), connect_redis(valkey.url)
                    ledger = Balance(sender.tally, redis_of_ledger, CONNECTIONS)
                    rig = Rig(
                        system, valkey, postgres, redis, sender, started, flushers, ledger, proxies
                    )
                    try:
                        await rig.sends(20)
                        yield rig
                        await rig.sends(20)
                        sender.stop()
                        await driving
                        await _reconcile(rig, sent_log)
                    finally:
                        await redis.aclose()
                        await redis_of_ledger.aclose()


@asynccontextmanager
async def load(
    system: System, rate: float = _RATE, sites: tuple[str, ...] = SITES
) -> AsyncIterator[tuple[Sender, SentLog, "asyncio.Task[None]"]]:
    """Visits to a system's sites, `rate` a second, until the end of the block."""
    sent_log = SentLog(sites, role_of)
    people = People(_VISITS, len(sites), 20, 5, 1, sent_log.tag)
    address = Address.parse(system.url)
    signer = TokenSigner({"JWT_KEY": system.environment["JWT_KEY"]})
    builder = RequestBuilder(people, signer, sites, str(address))
    async with Client(address, CONNECTIONS, keep_going=True) as client:
        sender = Sender(client, people.visits(), builder, sent_log, rate)
        driving = asyncio.create_task(sender.run())
        try:
            yield sender, sent_log, driving
        finally:
            sender.stop()
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)


async def _reconcile(rig: Rig, sent_log: SentLog) -> None:
    differences = await settle(sent_log, rig.postgres.dsn(), ZoneInfo("UTC"), 60)
    assert differences.exact, f"{differences.reasons} {differences.examples}\n{rig.system.logs}"
    await eventually(rig.buffered, lambda entries: entries == 0)
    assert await rig.dead_letters() == 0, "an outage never makes a dead letter"
    assert "Traceback" not in rig.system.logs
    # What is in PostgreSQL is counted a moment later.
    balanced = await eventually(rig.balance, lambda balanced: balanced.holds)
    assert balanced.accepted > 0


def _through(proxy: BreakableProxy, url: str) -> str:
    head, _, tail = url.rpartition(":")
    _, slash, path = tail.partition("/")
    return f"{head}:{proxy.port}{slash}{path}"
