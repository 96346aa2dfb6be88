"""collector/buffer/cluster_writer.py: a record ends up where its shard is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import hiredis
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
from tests.appending import append
from tests.system import eventually
from tests.unit.events import SESSION_ID

ONE, OTHER = Address("one", 1), Address("other", 2)


class Map:
    """As `Cluster`, of one shard; a client is its address."""

    def __init__(self) -> None:
        self.at: Address | None = ONE
        self.is_lost = False
        self.doubts = 0

    async def refresh(self) -> None:
        """It is always new, or can't be had."""
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
    """A connection to a node: the next line of its script answers each command, or it is taken."""

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
        reader = hiredis.Reader(notEnoughData=None)
        reader.feed(commands)
        words: list[list[bytes]] = list(iter(reader.gets, None))
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
    """A collector's appender on two nodes."""

    def __init__(self) -> None:
        self.map = Map()
        self.nodes = {ONE: Node(), OTHER: Node()}

        def connect(client: Redis) -> Connection:
            return self.nodes[cast(Address, client)]

        self.writer = ClusterWriter(
            cast(Cluster, self.map), 1, connect, CollectorMetrics(CollectorRegistry())
        )
        self.appender = Appender(self.writer, 1)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_writer, "_FOLLOW_SECONDS", 0)


@asynccontextmanager
async def running() -> AsyncIterator[System]:
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
    async def look() -> bool:
        return holds()

    await eventually(look)


async def test_what_comes_before_the_map_waits_for_it() -> None:
    async with running() as system:
        system.map.at = None
        await asyncio.sleep(0)
        stored = asyncio.ensure_future(append(system.appender, SESSION_ID, b"record"))
        await asyncio.sleep(0)
        assert not stored.done()
        system.map.at = ONE
        await stored
        assert system.nodes[ONE].got == [b"record"]


async def test_a_shard_that_has_moved_is_followed() -> None:
    async with running() as system:
        system.nodes[ONE].script = [MovedError("0 other:2")]
        await append(system.appender, SESSION_ID, b"record")
        assert system.nodes[OTHER].got == [b"record"]
        await append(system.appender, SESSION_ID, b"next")
        assert system.nodes[OTHER].got == [b"record", b"next"]
        assert system.appender.failing_since is None, "a move is no fault"


async def test_a_shard_that_is_moving_is_asked_for_once() -> None:
    async with running() as system:
        system.nodes[ONE].script = [AskError("0 other:2")]
        await append(system.appender, SESSION_ID, b"record")
        assert system.nodes[OTHER].got == [b"ASKING", b"record"]
        await append(system.appender, SESSION_ID, b"next")
        assert system.nodes[ONE].got == [b"record", b"next"]


async def test_a_lost_node_is_tried_until_it_has_a_successor() -> None:
    async with running() as system:
        system.nodes[ONE].script = [RedisConnectionError("lost")] * 100_000
        stored = asyncio.ensure_future(append(system.appender, SESSION_ID, b"record"))
        await until(lambda: len(system.nodes[ONE].got) >= 3)
        assert system.appender.failing_since is not None
        system.map.at = OTHER
        await stored
        assert system.nodes[OTHER].got == [b"record"]
        assert system.appender.failing_since is None


async def test_the_end_of_an_outage_is_told_whichever_node_ends_it() -> None:
    with capture_logs() as lines:
        async with running() as system:
            for node, successor in ((ONE, OTHER), (OTHER, ONE)):
                system.nodes[node].script = [RedisConnectionError("lost")] * 100_000
                stored = asyncio.ensure_future(append(system.appender, SESSION_ID, b"record"))
                await until(lambda: system.appender.failing_since is not None)
                system.map.at = successor
                await stored
                await append(system.appender, SESSION_ID, b"next")
                system.nodes[node].script = []
    events = [line["event"] for line in lines]
    assert events == ["sessions can't be written", "sessions are written again"] * 2


async def test_each_time_that_all_nodes_are_lost_is_told_with_its_end() -> None:
    with capture_logs() as lines:
        async with running() as system:
            for told in (1, 2):
                system.map.is_lost, system.map.at = True, None
                await until(lambda n=2 * told - 1: len(lines) == n)  # type: ignore[misc]  # mypy infers no lambda with a default
                system.map.is_lost, system.map.at = False, ONE
                await until(lambda n=2 * told: len(lines) == n)  # type: ignore[misc]  # the same
    events = [line["event"] for line in lines]
    assert events == ["sessions can't be written", "sessions are written again"] * 2


async def test_what_is_under_way_to_a_frozen_node_goes_to_its_successor() -> None:
    async with running() as system:
        system.nodes[ONE].gate.clear()
        stored = asyncio.ensure_future(append(system.appender, SESSION_ID, b"record"))
        await until(lambda: bool(system.nodes[ONE].got))
        waiting = append(system.appender, SESSION_ID, b"next")
        system.map.at = OTHER
        await asyncio.gather(stored, waiting)
        assert system.nodes[OTHER].got == [b"record", b"next"]


async def test_a_frozen_node_puts_the_map_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_writer, "_SLOW_SECONDS", 0.01)
    async with running() as system:
        system.nodes[ONE].gate.clear()
        stored = asyncio.ensure_future(append(system.appender, SESSION_ID, b"record"))
        await until(lambda: bool(system.map.doubts))
        system.nodes[ONE].gate.set()
        await stored
        assert system.nodes[ONE].got == [b"record"], "once"


async def test_a_refusal_is_told_at_once() -> None:
    async with running() as system:
        system.nodes[ONE].script = [ResponseError("WRONGTYPE")]
        with pytest.raises(Retry) as refused:
            await append(system.appender, SESSION_ID, b"record")
        assert refused.value.reason == "redis_refused"
