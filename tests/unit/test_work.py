"""How much work a session is, counted in calls and commands. No time is measured.

A limit is some 10 % above what was counted when it was set. Who raises it says why here.
"""

import asyncio
import cProfile
import pstats
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from bench.speed.beacons import beacons
from collector.buffer.append import Appender
from collector.buffer.node_writer import NodeWriter
from collector.http.connections import Connections
from collector.http.server import Server
from contract.collector_metrics import CollectorMetrics
from tests.unit.scripted import ScriptedConnection
from tests.whole_collector import Transport, make_sessions

_CONNECTIONS = 64
_SHARDS = 8
# Until the load is noticed, and as many again.
_ROUNDS = 16
_SESSIONS = _CONNECTIONS * _ROUNDS

# Calls of Python and of C functions, aiohttp's and this test's own included. A bare aiohttp
# application makes 112 for the same request, many of them costlier: tasks, futures, headers.
CALLS_A_SESSION = 240
# Sessions that arrive together share one write, and one exchange with Redis.
EXCHANGES_A_THOUSAND_SESSIONS = 1000 / _CONNECTIONS * 1.1
# A transaction of four for each shard that several of a write's sessions go to.
COMMANDS_A_THOUSAND_SESSIONS = 1000 / _CONNECTIONS * 4 * _SHARDS


@pytest.fixture
def connection() -> ScriptedConnection:
    return ScriptedConnection()


@pytest.fixture
async def server(connection: ScriptedConnection) -> AsyncIterator[Server]:
    metrics = CollectorMetrics(CollectorRegistry())
    appender = Appender(NodeWriter(lambda: connection, metrics), _SHARDS)
    settings = {"SITES": "*.example.org", "TRUSTED_PROXIES": "127.0.0.1"}
    headers, sessions = make_sessions(settings, appender, metrics)
    running = asyncio.create_task(appender.writer.run())
    yield Server(headers, sessions, metrics, Connections(100, metrics))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


class Clients:
    """Connections. Each sends its next beacon when it has its answer."""

    def __init__(self, server: Server) -> None:
        self._beacons = beacons("127.0.0.1:8000")
        protocols = [server.protocol() for _ in range(_CONNECTIONS)]
        self._all = [(protocol, Transport(protocol)) for protocol in protocols]

    async def send(self, rounds: int) -> None:
        for _ in range(rounds):
            for protocol, transport in self._all:
                transport.received = b""
                protocol.data_received(next(self._beacons))
            while not all(transport.received for _, transport in self._all):  # noqa: ASYNC110 - the writer's task has its turn
                await asyncio.sleep(0)
            for _, transport in self._all:
                assert transport.received.startswith(b"HTTP/1.1 201 Created\r\n")

    def close(self) -> None:
        for protocol, _ in self._all:
            protocol.connection_lost(None)


@pytest.fixture
async def clients(server: Server) -> AsyncIterator[Clients]:
    clients = Clients(server)
    await clients.send(_ROUNDS)  # caches fill
    yield clients
    clients.close()
    await asyncio.sleep(0)


async def test_calls_a_session(clients: Clients) -> None:
    profile = cProfile.Profile()
    with profile:
        await clients.send(_ROUNDS)
    calls = cast("Any", pstats.Stats(profile)).total_calls / _SESSIONS
    assert calls <= CALLS_A_SESSION


async def test_sessions_that_arrive_together_share_a_write(
    clients: Clients, connection: ScriptedConnection
) -> None:
    connection.batches.clear()
    connection.commands.clear()
    await clients.send(_ROUNDS)
    assert len(connection.commands) * 1000 / _SESSIONS <= COMMANDS_A_THOUSAND_SESSIONS
    assert len(connection.batches) * 1000 / _SESSIONS <= EXCHANGES_A_THOUSAND_SESSIONS
