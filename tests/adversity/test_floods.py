"""Clients that mean harm: slow ones, many at once, and those that look for other doors."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from collector.http.connection_limits import ConnectionLimits
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from contract.metrics import CollectorMetrics
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.servers import Servers
from tests.system import System, eventually

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HEAD = f"POST {SESSIONS} HTTP/1.1\r\nHost: a.example.org\r\nUser-Agent: {FIREFOX}\r\n"


@pytest.fixture
def system(embedded_servers: Servers, redis: Redis, tmp_path: Path) -> Iterator[System]:
    assert redis is not None  # an empty one
    with System(embedded_servers.redis.url, "postgresql://none", tmp_path) as system:
        yield system


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def post(system: System) -> int:
    async with (
        aiohttp.ClientSession(headers={"User-Agent": FIREFOX}) as http,
        http.post(system.url + SESSIONS) as answer,
    ):
        return answer.status


class Doubled:
    """aiohttp's server with limits, and a clock for its sweep in the hands of the test."""

    def __init__(self, most: int = 100) -> None:
        self.registry = CollectorRegistry()
        self.limits = ConnectionLimits(most, CollectorMetrics(self.registry), arrival_seconds=20)
        self.port = 0
        self.asked = 0

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.asked += 1
        await request.read()
        return web.Response(text="here")

    async def connections(self) -> int:
        return len(self.limits._connections())

    def closed(self, reason: str) -> float | None:
        return self.registry.get_sample_value("impact_connections_closed_total", {"reason": reason})


@pytest.fixture
async def doubled() -> AsyncIterator[Doubled]:
    doubled = Doubled()
    server = web.Server(doubled.answer)
    listener = await asyncio.get_running_loop().create_server(
        doubled.limits.admit(server, lambda: server.connections), "127.0.0.1", 0
    )
    doubled.port = listener.sockets[0].getsockname()[1]
    yield doubled
    listener.close()
    await server.shutdown(1)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param("", id="nothing"),
        pytest.param("POST / HTTP/1.1\r\nHost: a", id="a part of its headers"),
        pytest.param("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab", id="of its body"),
        pytest.param(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            id="of its chunks",
        ),
    ],
)
async def test_a_request_that_does_not_arrive_in_time_is_cut_off(
    doubled: Doubled, sent: str
) -> None:
    async with wire(doubled.port) as (reader, writer):
        writer.write(sent.encode())
        await eventually(doubled.connections, lambda count: count == 1)
        if sent.endswith("ab") or "chunked" in sent:

            async def asked() -> int:
                return doubled.asked

            await eventually(asked)
        assert doubled.limits.sweep_once(1000) == 0
        assert doubled.limits.sweep_once(1019) == 0
        assert doubled.limits.sweep_once(1021) == 1
        with suppress(ConnectionResetError):  # where something of it was not read yet
            assert await reader.read() == b""
    assert doubled.closed("slow") == 1


async def test_what_is_complete_or_idle_between_two_requests_is_left_alone(
    doubled: Doubled,
) -> None:
    async with wire(doubled.port) as (reader, writer):
        for seconds in (1000, 1030, 1060):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")
            assert doubled.limits.sweep_once(seconds) == 0


async def test_too_many_connections_are_refused_and_those_there_are_go_on(
    system: System,
) -> None:
    collector = await system.program("collector", MAX_CONNECTIONS="20").start().ready()
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(wire(system.port)) for _ in range(20)]
        # The kernel tells the client before the collector has the connection.
        for reader, writer in wires:
            writer.write(f"{HEAD}Content-Length: 0\r\n\r\n".encode())
            assert b" 201 " in await reader.readline()
        for _ in range(200):
            async with wire(system.port) as (reader, _):
                with suppress(ConnectionError):
                    assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        reader, writer = wires[0]
        writer.write(f"{HEAD}Content-Length: 0\r\n\r\n".encode())
        await reader.readuntil(b" 201 ")

    async def served() -> int:
        with suppress(aiohttp.ClientError):
            return await post(system)
        return 0

    await eventually(served, lambda status: status == 201)
    metrics = await collector.metrics()
    assert metrics['impact_connections_closed_total{reason="too_many"}'] >= 200
    assert await collector.stop() == 0
    assert collector.log.count("a connection was refused") < 5, "it does not flood the log"


@pytest.mark.long
async def test_slow_clients_keep_nobody_else_waiting(system: System) -> None:
    await system.start("collector")
    async with AsyncExitStack() as stack:
        for _ in range(300):
            _, writer = await stack.enter_async_context(wire(system.port))
            writer.write(HEAD.encode() + b"X-Slow: a")
        async with asyncio.timeout(5):
            assert [await post(system) for _ in range(10)] == [201] * 10


TOO_LARGE = {
    "a long header": (f"{HEAD}X-Long: {'a' * 9000}\r\n\r\n", 400),
    "many headers": (HEAD + "X-A: b\r\n" * 80 + "\r\n", 400),
    "a long path": (f"GET /{'a' * 9000} HTTP/1.1\r\n\r\n", 400),
    "a long body": (f"{HEAD}Content-Length: 5000\r\n\r\n", 413),
    "chunks that are too long together": (
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n1400\r\n{'a' * 5120}\r\n0\r\n\r\n",
        413,
    ),
}


async def test_what_is_too_large_is_refused_and_the_public_port_has_no_admin_pages(
    system: System,
) -> None:
    await system.start("collector")
    for name, (request, status) in TOO_LARGE.items():
        async with wire(system.port) as (reader, writer):
            writer.write(request.encode())
            line = await reader.readline()
            assert re.match(rb"HTTP/1.[01] %d " % status, line), name
    async with aiohttp.ClientSession() as http:
        for page in ("/metrics", "/livez", "/readyz", "/", "/admin", "//metrics"):
            async with http.get(system.url + page) as answer:
                assert answer.status == 404, page
