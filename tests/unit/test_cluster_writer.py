"""collector/buffer/cluster_writer.py: a record is written to the node that has its shard."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import AskError, MovedError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from collector.buffer import cluster_writer
from collector.buffer.append import Appender
from collector.buffer.cluster_writer import ClusterWriter
from collector.buffer.node_writer import Connection
from contract.collector_metrics import CollectorMetrics
from contract.errors import Retry
from runtime.cluster import Cluster
from runtime.redis_client import Address
from tests.appending import append, parse_commands
from tests.system import eventually
from tests.unit.events import SESSION_ID

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


class Node:
    """A connection to a node that answers with the items of its script, then accepts all."""

    def __init__(self) -> None:
        self.script: list[object] = []
        self.got: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def close(self) -> None:
        """Nothing is open."""

    async def exchange(
        self, commands: bytes, count: int, take: Callable[[list[Any]], None] | None = None
    ) -> list[Any]:
        words = parse_commands(commands)
        assert len(words) == count
        self.got += [each[-1] for each in words]
        await self.gate.wait()
        answers = [
            b"OK" if w == [b"ASKING"] or not self.script else self.script.pop(0) for w in words
        ]
        if isinstance(answers[0], RedisConnectionError):
            raise answers[0]
        if take is not None:
            take(answers)
        return answers


class System:
    """A collector's appender with two nodes."""

    def __init__(self) -> None:
        self.map = Map()
        self.nodes = {ONE: Node(), OTHER: Node()}

        def connect(client: Redis) -> Connection:
            return self.nodes[cast(Address, client)]

        self.writer = ClusterWriter(
            cast(Cluster, self.map), 1, connect, CollectorMetrics(CollectorRegistry())
        )
        self.appender = Appender(self.writer, 1)

    def send(self, record: bytes) -> asyncio.Task[None]:
        """A request, which waits until its record is stored."""
        return asyncio.create_task(append(self.appender, SESSION_ID, record))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_writer, "_FOLLOW_SECONDS", 0)


@pytest.fixture
async def system() -> AsyncIterator[System]:
    """It runs. At the end nothing waits to be acknowledged."""
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


async def test_a_record_waits_until_the_map_is_known(system: System) -> None:
    system.map.at = None
    await asyncio.sleep(0)
    stored = system.send(b"record")
    await asyncio.sleep(0)
    assert not stored.done()
    system.map.at = ONE
    await stored
    assert system.nodes[ONE].got == [b"record"]


@pytest.mark.parametrize(
    ("reply", "sent", "next_node"),
    [(MovedError("0 other:2"), [], OTHER), (AskError("0 other:2"), [b"ASKING"], ONE)],
    ids=["moved", "moving"],
)
async def test_a_redirection_is_followed(
    system: System, reply: RedisError, sent: list[bytes], next_node: Address
) -> None:
    """For good after MOVED, once after ASK."""
    system.nodes[ONE].script = [reply]
    await system.send(b"record")
    assert system.nodes[OTHER].got == [*sent, b"record"]
    await system.send(b"next")
    assert system.nodes[next_node].got[-2:] == [b"record", b"next"]
    assert system.appender.failing_since is None, "a redirection is no fault"


async def test_a_lost_node_is_tried_until_another_replaces_it_and_the_end_is_logged(
    system: System,
) -> None:
    with capture_logs() as lines:
        for node, successor in ((ONE, OTHER), (OTHER, ONE)):
            system.nodes[node].script = [RedisConnectionError("lost")] * 100_000
            stored = system.send(b"record")
            await until(lambda n=node: len(system.nodes[n].got) >= 3)  # type: ignore[misc]  # mypy infers no lambda with a default
            assert system.appender.failing_since is not None
            system.map.at = successor
            await stored
            assert system.appender.failing_since is None
            await system.send(b"next")
            assert system.nodes[successor].got[-2:] == [b"record", b"next"]
            system.nodes[node].script = []
    events = [line["event"] for line in lines]
    assert events == ["sessions can't be written", "sessions are written again"] * 2


async def test_each_loss_of_all_nodes_is_logged_with_its_end(system: System) -> None:
    with capture_logs() as lines:
        for count in (1, 3):
            system.map.is_lost, system.map.at = True, None
            await until(lambda n=count: len(lines) == n)  # type: ignore[misc]  # as above
            system.map.is_lost, system.map.at = False, ONE
            await until(lambda n=count: len(lines) == n + 1)  # type: ignore[misc]  # as above
    events = [line["event"] for line in lines]
    assert events == ["sessions can't be written", "sessions are written again"] * 2


async def test_records_under_way_to_a_frozen_node_go_to_the_one_that_replaces_it(
    system: System,
) -> None:
    system.nodes[ONE].gate.clear()
    stored = system.send(b"record")
    await until(lambda: bool(system.nodes[ONE].got))
    waiting = system.send(b"next")
    system.map.at = OTHER
    await asyncio.gather(stored, waiting)
    assert system.nodes[OTHER].got == [b"record", b"next"]


async def test_a_frozen_node_puts_the_map_in_doubt(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_writer, "_SLOW_SECONDS", 0.01)
    system.nodes[ONE].gate.clear()
    stored = system.send(b"record")
    await until(lambda: bool(system.map.doubts))
    system.nodes[ONE].gate.set()
    await stored
    assert system.nodes[ONE].got == [b"record"], "once"


async def test_a_refusal_is_retry_at_once(system: System) -> None:
    system.nodes[ONE].script = [ResponseError("WRONGTYPE")]
    with pytest.raises(Retry) as refused:
        await system.send(b"record")
    assert refused.value.reason == "redis_refused"
