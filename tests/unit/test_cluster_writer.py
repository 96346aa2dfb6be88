"""collector/buffer/cluster_writer.py: redirections, and what is noticed while nodes are away.

`tests/adversity/test_cluster.py` kills, freezes and moves real nodes under load.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import AskError, MovedError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from collector.buffer import cluster_writer
from collector.buffer.append import Appender
from collector.buffer.cluster_writer import ClusterWriter
from collector.buffer.node_writer import Connection
from contract.collector_metrics import CollectorMetrics
from runtime.cluster import Cluster
from runtime.redis_client import Address
from tests.appending import append
from tests.system import eventually
from tests.unit.events import SESSION_ID
from tests.unit.scripted import ScriptedConnection

ONE, OTHER = Address("one", 1), Address("other", 2)


class Map:
    """Like `Cluster`, with one shard. A client is represented by its address."""

    def __init__(self) -> None:
        self.at: Address | None = ONE
        self.is_lost = False
        self.doubts = 0

    async def refresh(self) -> None:
        """The map is always fresh, unless no node answers."""
        if self.is_lost:
            raise RedisConnectionError("lost")

    def owner(self, _: int) -> Address | None:
        return self.at

    def client(self, node: Address) -> Address:
        return node

    def doubt(self) -> None:
        self.doubts += 1

    def learn(self, error: RedisError) -> None:
        if isinstance(error, MovedError):
            self.at = OTHER


class System:
    """A collector's appender with two nodes."""

    def __init__(self) -> None:
        self.map = Map()
        self.nodes = {ONE: ScriptedConnection(), OTHER: ScriptedConnection()}

        def connect(client: Redis) -> Connection:
            return self.nodes[cast(Address, client)]

        metrics = CollectorMetrics(CollectorRegistry())
        self.appender = Appender(ClusterWriter(cast(Cluster, self.map), 1, connect, metrics), 1)

    async def send(self, record: bytes) -> None:
        """Returns when it is stored."""
        await append(self.appender, SESSION_ID, record)


@pytest.fixture
async def system(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[System]:
    """It runs. At the end nothing waits to be acknowledged."""
    monkeypatch.setattr(cluster_writer, "_FOLLOW_SECONDS", 0)
    system = System()
    task = asyncio.create_task(system.appender.run())
    try:
        async with asyncio.timeout(60):
            yield system
        assert system.appender.idle
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async def check() -> bool:
        return holds()

    await eventually(check)


@pytest.mark.parametrize(
    ("reply", "sent", "next_node"),
    [
        (MovedError("0 other:2"), [b"XADD"], OTHER),
        # ASKING holds for one command.
        (AskError("0 other:2"), [b"ASKING", b"XADD"], ONE),
    ],
    ids=["moved", "moving"],
)
async def test_a_redirection_is_followed(
    system: System, reply: RedisError, sent: list[bytes], next_node: Address
) -> None:
    """For good after MOVED, once after ASK."""
    system.nodes[ONE].script = [{b"one": reply, b"two": reply}]
    await asyncio.gather(system.send(b"one"), system.send(b"two"))
    assert system.nodes[OTHER].commands == sent * 2
    await system.send(b"next")
    batches = [sorted(batch) for batch in system.nodes[next_node].batches]
    assert batches == [[b"one", b"two"], [b"next"]]
    assert system.appender.failing_since is None, "a redirection is no fault"


async def test_the_loss_of_all_nodes_is_logged_and_so_is_its_end(system: System) -> None:
    with capture_logs() as lines:
        system.map.is_lost, system.map.at = True, None
        await until(lambda: len(lines) == 1)
        system.map.is_lost, system.map.at = False, ONE
        await until(lambda: len(lines) == 2)
    events = [line["event"] for line in lines]
    assert events == ["sessions can't be written", "sessions are written again"]


async def test_a_frozen_node_puts_the_map_in_doubt(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_writer, "_SLOW_SECONDS", 0.01)
    system.nodes[ONE].gate.clear()
    stored = asyncio.create_task(system.send(b"record"))
    await until(lambda: bool(system.map.doubts))
    system.nodes[ONE].gate.set()
    await stored
    assert system.nodes[ONE].batches == [[b"record"]], "once"
