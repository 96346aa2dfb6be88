"""A server's memory, every byte that it has written, holds nothing of a salt that is over."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from redis.asyncio import Redis

from contract import keys
from contract.calendar import Month
from embedded.valkey import ValkeyServer
from runtime.redis_client import connect_peer, connect_redis
from salt.client import SaltServer
from salt.disposal import SaltDisposal
from salt.report import State
from salt.store import SaltStore
from salt.term import Outcome, Salt
from tests.memory import needs_memory, pieces
from tests.servers import EMBEDDED, Flavour, flavours
from tests.system import eventually

pytestmark = needs_memory

UTC = ZoneInfo("UTC")
CONFIG = {"appendonly": "yes", "save": "3600 1", "repl-diskless-sync-delay": "0"}


class InForce:
    """A server with a salt in force that has been asked for again and again, and its replica."""

    def __init__(self, server: ValkeyServer, replica: ValkeyServer) -> None:
        self.server = server
        self.replica = replica
        self.redis: Redis = connect_redis(server.url)
        self.store = SaltStore(self.redis, UTC)
        salt_server = SaltServer(
            self.redis, is_streams=True, connect_to=partial(connect_peer, server.url)
        )
        self.disposal = SaltDisposal(salt_server, self.store)
        self.salt = Salt(Month(2000, 1), 0, 0, bytes(32))

    async def begin(self) -> None:
        async with connect_redis(self.replica.url) as copy:

            async def follows() -> bool:
                info = await copy.info("replication")
                return bool(info["master_link_status"] == "up")

            await eventually(follows)
        for _ in range(3):
            await self.store.ensure()
        salt = await self.store.read((await self.store.ensure()).term)
        assert salt is not None
        self.salt = salt
        for _ in range(3):
            await self.store.observe(salt.month)
            await self.traffic()

    async def traffic(self) -> None:
        """As of sessions, on connections of their own."""
        async with connect_redis(self.server.url) as redis:
            for _ in range(100):
                await redis.xadd(keys.stream(0), {"entry": bytes(150)})
            await redis.xtrim(keys.stream(0), 10, approximate=False)

    async def dispose(self) -> None:
        due_since = await self.disposal.due_since()
        assert due_since is not None
        report = await self.disposal.dispose(due_since)
        assert {place.state for place in report.places} <= {State.CLEAN, State.OFF}, report

    async def left(self) -> Counter[str]:
        salt = self.salt.value
        return pieces(salt, self.server.pid) + pieces(salt, self.replica.pid)


# With jemalloc, as Redis has it, a piece is left now and then (docs/decisions/0019): `make
# test-long` shows how often.
_FLAVOURS = [
    pytest.param(each, id=each.name, marks=[] if each is EMBEDDED else [pytest.mark.long])
    for each in flavours()
]


@pytest.fixture(params=_FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> Flavour:
    found: Flavour = request.param
    return found


@pytest.fixture
async def in_force(flavour: Flavour, tmp_path: Path, stack: ExitStack) -> AsyncIterator[InForce]:
    binary = flavour.redis_binary
    server = stack.enter_context(ValkeyServer(tmp_path / "a", binary=binary, config=CONFIG))
    config = {**CONFIG, "replicaof": f"127.0.0.1 {server.port}"}
    replica = stack.enter_context(ValkeyServer(tmp_path / "b", binary=binary, config=config))
    in_force = InForce(server, replica)
    await in_force.begin()
    yield in_force
    await in_force.redis.aclose()


async def test_no_connections_buffer_keeps_the_salt_that_was_read(in_force: InForce) -> None:
    """A connection that is then idle until it is closed would leave the salt in freed memory."""
    observe, month = in_force.store.observe, in_force.salt.month
    await asyncio.gather(*(observe(month) for _ in range(5)))  # five connections
    await in_force.store.push_out()
    assert pieces(in_force.salt.value, in_force.server.pid)["raw 0"] == 1, "only the key's value"


async def test_nothing_is_left_of_one_that_has_expired(in_force: InForce) -> None:
    """As at each month's end: it is gone before anybody could have written over it."""
    assert await in_force.left()
    key = keys.salt(in_force.salt.month)
    await in_force.redis.pexpire(key, 100)
    await eventually(lambda: in_force.redis.exists(key), lambda there: not there)
    await in_force.traffic()
    made = await in_force.store.ensure()
    assert made.outcome is Outcome.LOST
    await in_force.dispose()
    await eventually(in_force.left, lambda left: not left)


async def test_nothing_is_left_of_one_that_was_replaced(in_force: InForce) -> None:
    """As by `rotate --force`."""
    await in_force.traffic()
    replaced = await in_force.store.ensure(replace=True)
    assert replaced.outcome is Outcome.REPLACED
    await in_force.dispose()
    await eventually(in_force.left, lambda left: not left)


async def test_nor_where_the_server_was_restarted_meanwhile(in_force: InForce) -> None:
    """It has the salt from its files then."""
    in_force.replica.stop()  # it would copy all of it anew: docs/privacy.md
    await in_force.redis.aclose()
    in_force.server.restart()

    async def left() -> Counter[str]:
        return pieces(in_force.salt.value, in_force.server.pid)

    assert await left()
    await in_force.store.observe(in_force.salt.month)
    await in_force.store.ensure(replace=True)
    await in_force.dispose()
    await eventually(left, lambda left: not left)
