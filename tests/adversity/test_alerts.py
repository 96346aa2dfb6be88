"""The alerts as they are shipped, in a real Prometheus that scrapes real processes.

Each test breaks something, waits until its alerts fire, mends it, and waits until they are silent.
How long that takes the rules say themselves. Not here, since they take longer still, but with
promtool (`deploy/prometheus/alerts_test.yaml`): `ImpactEarlierSaltLeft` (15 minutes),
`ImpactUpgradesGivenUp` (48 hours), and the silence of what looks back over a quarter of an hour
(`ImpactDeadLettersDropped`, and `ImpactDeadLetters` by reason).
"""

import asyncio
import itertools
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from collector.request.address_check import WINDOW
from contract import keys
from embedded.postgres import PostgresServer
from embedded.valkey import ValkeyServer
from flusher.stream.dead_letters import DEAD_LETTERS_KEPT
from runtime.redis_client import connect_redis
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres
from tests.system import ROOT, Program, System, eventually, find_free_port, run_successfully

RULES = ROOT / "deploy/prometheus/alerts.yaml"
MINUTE = 60.0
# A scrape, an evaluation and a busy machine.
SLACK = 90.0

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]


@dataclass
class Prometheus:
    """What fires."""

    url: str

    async def ask(self, path: str) -> Any:
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/api/v1/{path}") as answer:
            return (await answer.json())["data"]

    async def firing(self) -> set[str]:
        """The names; with a reason where it has one."""
        with suppress(aiohttp.ClientError):
            return {
                f"{each['labels']['alertname']} {each['labels'].get('reason', '')}".strip()
                for each in (await self.ask("alerts"))["alerts"]
                if each["state"] == "firing"
            }
        return set()

    async def health(self) -> list[str]:
        """Of each process, whether its metrics were read."""
        with suppress(aiohttp.ClientError):
            return [each["health"] for each in (await self.ask("targets"))["activeTargets"]]
        return []

    async def fires(self, seconds: float, *names: str) -> None:
        """Waits until all of these do."""
        await eventually(self.firing, lambda firing: firing >= {*names}, seconds + SLACK)

    async def is_silent_of(self, seconds: float, *names: str) -> None:
        """Waits until none of these does."""
        await eventually(self.firing, lambda firing: not firing & {*names}, seconds + SLACK)


@contextmanager
def prometheus(programs: list[Program], folder: Path) -> Iterator[Prometheus]:
    """A Prometheus with the shipped rules, that looks every few seconds."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus here (Debian: prometheus)")
    folder.mkdir()
    by_job: dict[str, list[str]] = {}
    for each in programs:
        target = f"127.0.0.1:{each.environment['ADMIN_PORT']}"
        by_job.setdefault(f"impact-{each.module}", []).append(target)
    # A scrape that takes too long is one that failed: a busy machine has as long as it may.
    every = {"scrape_interval": "5s", "scrape_timeout": "5s", "evaluation_interval": "5s"}
    jobs = [
        {"job_name": job, "static_configs": [{"targets": targets}]}
        for job, targets in by_job.items()
    ]
    config = {"global": every, "rule_files": [str(RULES)], "scrape_configs": jobs}
    (folder / "prometheus.yaml").write_text(json.dumps(config))  # which is YAML, too
    address = f"127.0.0.1:{find_free_port()}"
    command = [
        program,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(20)


@dataclass
class Stage:
    """A system of two collectors, a flusher and rotation, and its Prometheus."""

    system: System
    valkey: ValkeyServer
    postgres: PostgresServer
    redis: Redis
    prometheus: Prometheus
    collectors: list[Program]
    rotation: Program
    addresses: Iterator[int] = field(default_factory=itertools.count)

    async def post(
        self, address: str | None = None, session: aiohttp.ClientSession | None = None
    ) -> int:
        """One visit. Without an address it is a new public one; without a session, a new
        connection.
        """
        if session is None:
            async with aiohttp.ClientSession() as http:
                return await self.post(address, http)
        number = next(self.addresses)
        address = address or f"93.184.{number // 250 % 250}.{number % 250 + 1}"
        headers = {"User-Agent": FIREFOX, "X-Forwarded-For": address}
        with suppress(aiohttp.ClientError):
            async with session.post(self.system.url + SESSIONS, headers=headers) as answer:
                return answer.status
        return 0


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    valkey = ValkeyServer(folder / "valkey")
    postgres = CopiedPostgres(folder / "postgres", settings=POSTGRES_SETTINGS)
    with (
        valkey,
        postgres,
        System(valkey.url, postgres.dsn(), folder / "logs", {"MAX_CONNECTIONS": "20"}) as system,
    ):
        await run_successfully("flusher", "migrate", **system.environment)
        programs = await system.start("collector", "collector", "flusher", "rotation")
        redis = connect_redis(valkey.url)
        with prometheus(programs, folder / "prometheus") as looking:
            try:
                await eventually(looking.health, lambda found: found == ["up"] * len(programs))
                collectors, rotation = programs[:2], programs[3]
                stage = Stage(system, valkey, postgres, redis, looking, collectors, rotation)
                assert await stage.post() == 201
                assert await looking.firing() == set()
                yield stage
            finally:
                await redis.aclose()


async def test_alerts_of_killed_processes_and_of_visits_from_one_address(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path) as stage:
        look = stage.prometheus
        stage.rotation.kill()
        async with aiohttp.ClientSession() as http:  # one connection: one collector has them all
            for _ in range(WINDOW + 1):
                assert await stage.post("93.184.216.34", http) == 201
        await look.fires(2 * MINUTE, "ImpactDown")
        await look.fires(10 * MINUTE, "ImpactNobodyRotates", "ImpactClientAddressSuspect")
        assert "ImpactNobodyCollects" not in await look.firing()
        for collector in stage.collectors:
            collector.kill()
        await look.fires(2 * MINUTE, "ImpactNobodyCollects")
        for program in (*stage.collectors, stage.rotation):
            await program.start().ready()
        mended = "ImpactNobodyCollects", "ImpactNobodyRotates", "ImpactDown"
        # As after a correction of TRUSTED_PROXIES: a new collector has no suspicion yet.
        await look.is_silent_of(0, *mended, "ImpactClientAddressSuspect")
        assert await look.firing() == set()


async def test_alerts_of_a_frozen_redis(tmp_path: Path) -> None:
    """Old measurements would look well for ever, so they must not stay."""
    async with staged(tmp_path) as stage:
        look = stage.prometheus

        async def visits() -> None:
            while True:
                await stage.post()
                await asyncio.sleep(1)  # the pace of the visits

        visiting = asyncio.create_task(visits())
        stage.valkey.freeze()
        try:
            await look.fires(1.5 * MINUTE, "ImpactSaltMissing")
            await look.fires(1 * MINUTE, "ImpactSessionsRefused")
            await look.fires(3.5 * MINUTE, "ImpactNobodyFlushes")
            # The processes are there all the while, and are not said to be gone.
            firing = await look.firing()
            assert not firing & {"ImpactDown", "ImpactNobodyCollects", "ImpactNobodyRotates"}
        finally:
            stage.valkey.thaw()
        await look.is_silent_of(0, "ImpactSaltMissing", "ImpactNobodyFlushes")
        await look.is_silent_of(5 * MINUTE, "ImpactSessionsRefused")
        visiting.cancel()
        await asyncio.gather(visiting, return_exceptions=True)
        assert await look.firing() == set()


async def test_alerts_of_dead_letters_late_rows_a_full_redis_and_a_flood(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path) as stage:
        look, redis = stage.prometheus, stage.redis
        await redis.xadd(keys.stream(0), {"r": b"no record"})
        await look.fires(0, "ImpactDeadLetters", "ImpactDeadLetters undecodable")
        async with redis.pipeline(transaction=False) as pipe:
            for _ in range(DEAD_LETTERS_KEPT):
                pipe.xadd(keys.dead_letters(0), {"e": b"no record"})
            await pipe.execute()
        await redis.xadd(keys.stream(0), {"r": b"no record"})
        await look.fires(2 * MINUTE, "ImpactDeadLettersDropped")
        await redis.delete(keys.dead_letters(0))
        await look.is_silent_of(0, "ImpactDeadLetters")

        await asyncio.to_thread(stage.postgres.stop)
        assert await stage.post() == 201
        used: Any = await redis.info("memory")
        await redis.config_set("maxmemory", str(int(used["used_memory"] / 0.87)))

        async def flood() -> None:
            while True:
                connections = []
                for _ in range(60):
                    with suppress(OSError):
                        connections.append(
                            await asyncio.open_connection("127.0.0.1", stage.system.port)
                        )
                for _, writer in connections:
                    writer.close()
                await asyncio.sleep(1)  # the pace of the flood

        flooding = asyncio.create_task(flood())
        await look.fires(2 * MINUTE, "ImpactBufferFilling", "ImpactConnectionsRefused")
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        await redis.config_set("maxmemory", "0")
        await look.is_silent_of(0, "ImpactBufferFilling")
        await look.fires(4 * MINUTE, "ImpactRowsLate")
        await asyncio.to_thread(stage.postgres.start)
        await look.is_silent_of(0, "ImpactRowsLate")
        await look.is_silent_of(5 * MINUTE, "ImpactConnectionsRefused")
        known = {"ImpactDeadLettersDropped", "ImpactDeadLetters undecodable"}
        assert await look.firing() <= known
