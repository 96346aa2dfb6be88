"""collector/buffer/cluster_writer.py: redirections.

`tests/adversity/test_cluster.py` kills, freezes and moves real nodes under load.
"""

import asyncio
from typing import cast

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import AskError, MovedError, RedisError

from collector.buffer import cluster_writer
from collector.buffer.append import Appender
from collector.buffer.cluster_writer import ClusterWriter
from collector.buffer.node_writer import Connection
from contract.collector_metrics import CollectorMetrics
from runtime.cluster import Cluster
from runtime.redis_client import Address
from tests.appending import append
from tests.unit.events import SESSION_ID
from tests.unit.scripted import ScriptedConnection

ONE, OTHER = Address("one", 1), Address("other", 2)


class Map:
    """Like `Cluster`, with one shard. A client is represented by its address."""

    def __init__(self) -> None:
        self.at = ONE

    async def refresh(self) -> None:
        """The map is always fresh."""

    def owner(self, _: int) -> Address:
        return self.at

    def client(self, node: Address) -> Address:
        return node

    def doubt(self) -> None:
        """It has one answer."""

    def learn(self, error: RedisError) -> None:
        if isinstance(error, MovedError):
            self.at = OTHER


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
    monkeypatch: pytest.MonkeyPatch, reply: RedisError, sent: list[bytes], next_node: Address
) -> None:
    """For good after MOVED, once after ASK."""
    monkeypatch.setattr(cluster_writer, "_FOLLOW_SECONDS", 0)
    nodes = {ONE: ScriptedConnection(), OTHER: ScriptedConnection()}

    def connect(client: Redis) -> Connection:
        return nodes[cast(Address, client)]

    metrics = CollectorMetrics(CollectorRegistry())
    appender = Appender(ClusterWriter(cast(Cluster, Map()), 1, connect, metrics), 1)
    running = asyncio.create_task(appender.run())
    async with asyncio.timeout(60):
        nodes[ONE].script = [{b"one": reply, b"two": reply}]
        await asyncio.gather(*(append(appender, SESSION_ID, each) for each in (b"one", b"two")))
        assert nodes[OTHER].commands == sent * 2
        await append(appender, SESSION_ID, b"next")
    assert [sorted(batch) for batch in nodes[next_node].batches] == [[b"one", b"two"], [b"next"]]
    assert appender.idle
    assert appender.failing_since is None, "a redirection is no fault"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
