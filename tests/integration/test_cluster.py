"""The whole system on a Redis Cluster of three primaries: from a request to its row."""

import json
from collections.abc import AsyncIterator
from functools import partial
from operator import eq
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from contract import keys
from contract.record import FIELD
from embedded.cluster import Cluster, shards_of
from embedded.valkey import ValkeyServer
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.servers import Flavour
from tests.system import ROOT, System, eventually, run_command, run_successfully


@pytest.fixture
async def cluster(flavour: Flavour, tmp_path: Path) -> AsyncIterator[Cluster]:
    with Cluster(tmp_path, replicas=False, binary=flavour.redis_binary) as cluster:
        await cluster.form()
        yield cluster


async def test_requests_become_rows_wherever_their_shards_are(
    cluster: Cluster, dsn: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    """With the shipped accounts, also where a shard and the salt have moved to another node, and
    while a shard is half moved: -ASK, all the time.
    """
    accounts = (ROOT / "deploy/redis-users.acl").read_text().splitlines()
    for server in cluster.servers:
        for account in accounts:
            _, name, *rules = account.split()
            if name != "default":  # with which the test moves slots
                cluster.admit(server, name, rules)
    with System(cluster.url, dsn, tmp_path / "logs", {"REDIS_CLUSTER": "1"}) as system:
        for module in ("rotation", "collector", "flusher"):
            user = f"redis://impact-{module}:{module.upper()}_PASSWORD@"
            url = cluster.url.replace("redis://", user)
            await system.program(module, REDIS_URL=url).start().ready()
        assert all(shards_of(cluster, server) for server in cluster.servers)
        rows = partial(connection.fetchval, "SELECT count(*) FROM sessions")
        await _visits(system)
        await eventually(rows, partial(eq, 24))
        for key in (keys.stream(0), keys.CURRENT_SALT):
            cluster.move(key, _another_node(cluster, key))
        await _visits(system)
        await eventually(rows, partial(eq, 48))
        with cluster.moving(keys.stream(0), _another_node(cluster, keys.stream(0))):
            await _visits(system)
        await _visits(system)
        await eventually(rows, partial(eq, 96))
        (collector,) = [each for each in system.programs if each.module == "collector"]
        assert "can't be written" not in collector.log, "a redirection is no fault"
        assert "NOPERM" not in system.logs
        if cluster.is_embedded:  # once is enough
            await _commands_work(system, cluster)
            url = f"redis://127.0.0.1:{cluster.servers[0].port}"
            code, _, errors = await run_command("flusher", "dead", "list", REDIS_URL=url)
            assert code == 1
            assert "REDIS_CLUSTER=1" in errors


async def _visits(system: System) -> None:
    async with aiohttp.ClientSession(headers={"User-Agent": FIREFOX}) as http:
        for visit in range(24):
            headers = {"X-Forwarded-For": f"192.0.2.{visit}"}
            async with http.post(system.url + SESSIONS, headers=headers) as answer:
                assert answer.status == 201


def _another_node(cluster: Cluster, key: str) -> ValkeyServer:
    here = cluster.primary_of(key)
    return next(server for server in cluster.servers if server is not here)


async def _commands_work(system: System, cluster: Cluster) -> None:
    # Three entries that are none, on as many nodes.
    for server, shard in zip(
        cluster.servers, (shards_of(cluster, s)[0] for s in cluster.servers), strict=True
    ):
        cluster.client(server).xadd(keys.stream(shard), {FIELD: b"no event"})
    await eventually(lambda: _dead(cluster), partial(eq, 3))
    output = await _command(system, "flusher", "dead", "list")
    names = [line.split()[0] for line in output.splitlines()[1:]]
    assert len({name.partition(":")[0] for name in names}) == 3
    await _command(system, "flusher", "dead", "drop", names[0])
    await _command(system, "flusher", "dead", "replay", names[1])
    await eventually(lambda: _dead(cluster), partial(eq, 2))
    status = json.loads(await _command(system, "flusher", "status", "--json"))
    assert [shard["shard"] for shard in status["shards"]] == list(range(8))
    assert status["shards"][0].keys() >= {"entries", "pending", "oldest_seconds", "last_write"}
    assert (status["dead_letters"], status["upgrades_waiting"]) == (2, 0)
    await _command(system, "rotation", "rotate", "--force")
    status = json.loads(await _command(system, "rotation", "status", "--json"))
    assert (status["salt_is_current"], status["earlier_salts"]) == (True, [])


async def _command(system: System, *words: str) -> str:
    return await run_successfully(*words, **system.environment)


async def _dead(cluster: Cluster) -> int:
    names = [keys.dead_letters(shard) for shard in range(8)]
    return sum(cluster.client(cluster.primary_of(name)).xlen(name) for name in names)
