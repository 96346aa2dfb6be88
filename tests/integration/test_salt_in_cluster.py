"""A destroyed salt in a cluster: also where its slot was before, and where a failover left it."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from contract import keys
from contract.calendar import Month
from contract.errors import Retry
from contract.identity import SALT_BYTES
from embedded.cluster import Cluster
from embedded.valkey import ValkeyServer
from salt.client import SaltServer, connect_salt
from salt.disposal import SaltDisposal
from salt.report import Report, State
from salt.store import SaltStore
from tests.instant import UTC
from tests.leftovers import files_with
from tests.system import eventually

EARLIER = Month(2020, 1)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    with Cluster(tmp_path) as cluster:
        await cluster.form()
        yield cluster


@pytest.fixture
async def server(cluster: Cluster) -> AsyncIterator[SaltServer]:
    async with connect_salt({"REDIS_URL": cluster.url, "REDIS_CLUSTER": "1"}) as server:
        yield server


@pytest.mark.long
async def test_a_salt_is_gone_from_all_who_ever_had_it(
    cluster: Cluster, server: SaltServer
) -> None:
    store = SaltStore(server.redis, UTC)
    disposal = SaltDisposal(server, store)
    old = secrets.token_bytes(SALT_BYTES)
    await server.redis.setrange(keys.salt(EARLIER), 0, old)
    await server.redis.set(keys.CURRENT_SALT, str(EARLIER))
    await disposal.holders.note()
    # Its slot moves, the node that has it now dies, and its replica takes over.
    first = cluster.primary_of(keys.CURRENT_SALT)
    second = next(server for server in cluster.servers[:3] if server is not first)
    cluster.move(keys.CURRENT_SALT, second)
    await _patiently(disposal.holders.note)
    await eventually(lambda: _holders(cluster, old), lambda found: len(found) == 4)
    second.kill()
    await cluster.fails_over(second)
    await _patiently(disposal.holders.note)

    await _patiently(store.ensure)
    report = await _dispose(disposal)
    dead = f"127.0.0.1:{second.port}"
    assert [(p.server, p.place) for p in report.refused] == [(dead, "server")], report
    assert "if it is gone for good" in report.refused[0].to_do
    assert await _holders(cluster, old) == [second]

    second.start()
    await cluster.follows(second)
    again = SaltDisposal(server, store)  # as a minute later
    await again.holders.note()
    report = await _dispose(again)
    assert not report.refused, report
    assert await _holders(cluster, old) == []


async def _dispose(disposal: SaltDisposal) -> Report:
    due_since = await disposal.due_since()
    assert due_since is not None
    report = await disposal.dispose(due_since)
    assert not report.failed, report
    assert {place.state for place in report.places} <= {State.CLEAN, State.OFF, State.REFUSED}
    return report


async def _holders(cluster: Cluster, salt: bytes) -> list[ValkeyServer]:
    return [server for server in cluster.servers if files_with(salt, server)]


async def _patiently(do: Any) -> None:
    """As the worker does it: what fails is tried again."""

    async def done() -> bool:
        try:
            await do()
        except (Retry, RedisError):
            return False
        return True

    await eventually(done)
