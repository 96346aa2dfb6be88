"""Hostile clients: slow ones, many at once, and requests that are too large or cut off."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import aiohttp
import pytest

from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.servers import Servers
from tests.system import Program, System, eventually

RawConnection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HEAD = f"POST {SESSIONS} HTTP/1.1\r\nHost: a.example.org\r\nUser-Agent: {FIREFOX}\r\n"


@pytest.fixture(scope="module")
def running(
    embedded_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Program, int]]:
    """A collector that no test stops, and its port."""
    folder = tmp_path_factory.mktemp("floods")
    with System(embedded_servers.redis.url, "postgresql://none", folder) as system:
        (collector,) = asyncio.run(system.start("collector"))
        yield collector, system.port


@asynccontextmanager
async def raw_connection(port: int) -> AsyncIterator[RawConnection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def post(system: System, **headers: str) -> int:
    """Starts a session; the answer's status."""
    async with (
        aiohttp.ClientSession(headers={"User-Agent": FIREFOX}) as http,
        http.post(system.url + SESSIONS, headers=headers) as answer,
    ):
        return answer.status


async def test_too_many_connections_are_refused_and_open_ones_go_on(
    system: System,
) -> None:
    collector = await system.program("collector", MAX_CONNECTIONS="20").start().ready()
    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(raw_connection(system.port)) for _ in range(20)
        ]
        # For the client a connection is open before the collector has it.
        for reader, writer in connections:
            writer.write(f"{HEAD}Content-Length: 0\r\n\r\n".encode())
            assert b" 201 " in await reader.readline()
        for _ in range(200):
            async with raw_connection(system.port) as (reader, _):
                with suppress(ConnectionError):
                    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 503 ")
                    assert b"\r\nRetry-After: " in head
                    assert json.loads(body)["errors"][0]["status"] == "503"
        reader, writer = connections[0]
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
async def test_slow_clients_do_not_delay_others(system: System) -> None:
    await system.start("collector")
    async with AsyncExitStack() as stack:
        for _ in range(300):
            _, writer = await stack.enter_async_context(raw_connection(system.port))
            writer.write(HEAD.encode() + b"X-Slow: a")
        async with asyncio.timeout(30):
            assert [await post(system) for _ in range(10)] == [201] * 10


CHUNKS = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n"
TOO_LARGE = {
    "a long header": (f"{HEAD}X-Long: {'a' * 17_000}\r\n\r\n", 431),
    "an endless header": (f"{HEAD}X-Long: {'a' * 17_000}", 431),
    "long headers together": (HEAD + f"X-Long: {'a' * 9000}\r\n" * 4 + "\r\n", 431),
    "many headers": (HEAD + "X-A: b\r\n" * 300 + "\r\n", 431),
    "many headers without an end": (HEAD + "X-A: b\r\n" * 300, 431),
    "a long path": (f"GET /{'a' * 17_000} HTTP/1.1\r\n\r\n", 431),
    "a long body": (f"{HEAD}Content-Length: 17000\r\n\r\n", 413),
    "chunks that are too long together": (
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n1400\r\n" + f"{'a' * 5120}\r\n1400\r\n" * 4,
        413,
    ),
    "a body that comes in one piece": (
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n27100\r\n{'a' * 160_000}\r\n0\r\n\r\n",
        413,
    ),
    "a long body of a known length": (f"{HEAD}Content-Length: 160000\r\n\r\n{'a' * 160_000}", 413),
    "a long trailer": (f"{CHUNKS}0\r\nX-Long: {'a' * 17_000}\r\n\r\n", 400),
    "many trailers": (f"{CHUNKS}2\r\n{{}}\r\n0\r\n" + "X-A: b\r\n" * 300 + "\r\n", 400),
    "a compressed body": (f"{HEAD}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{{}}", 415),
    "a body in a coding that nobody knows": (
        f"{HEAD}Content-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        415,
    ),
    "a coding in a second line": (
        f"{HEAD}Content-Encoding: identity\r\nContent-Encoding: x\r\nContent-Length: 2\r\n\r\n{{}}",
        415,
    ),
    "a coding of the transfer": (
        f"{HEAD}Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n",
        415,
    ),
}


FOR_AIOHTTP = f"{HEAD}TE: trailers\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("before", ["", FOR_AIOHTTP], ids=["first", "after one for aiohttp"])
async def test_an_oversized_request_is_refused(running: tuple[Program, int], before: str) -> None:
    """Also where aiohttp reads all further requests of a connection."""
    _, port = running
    for name, (request, status) in TOO_LARGE.items():
        async with raw_connection(port) as (reader, writer):
            if before:
                writer.write(before.encode())
                await reader.readuntil(b'"session"}}')
            writer.write(request.encode())
            line = await reader.readline()
            assert re.match(rb"HTTP/1.1 %d " % status, line), name
            headers = await reader.readuntil(b"\r\n\r\n")
            assert b"aiohttp" not in headers, name
            length = int(headers.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            (error,) = json.loads(await reader.readexactly(length))["errors"]
            assert error["status"] == str(status), name


async def test_a_request_with_many_small_headers_is_counted(running: tuple[Program, int]) -> None:
    """Proxies and tracing tools add their own; only their size is limited for real clients."""
    request = HEAD + "".join(f"X-{number}: a\r\n" for number in range(200)) + "\r\n"
    async with raw_connection(running[1]) as (reader, writer):
        for before in ("", FOR_AIOHTTP):
            writer.write(f"{before}{request}".encode())
            async with asyncio.timeout(30):
                for _ in range(2 if before else 1):
                    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 201 ")
                    await reader.readuntil(b'"session"}}')


async def test_a_client_that_ends_within_a_body_is_no_fault_of_the_collector(
    running: tuple[Program, int],
) -> None:
    collector, port = running
    for rest in ("Content-Length: 9\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n9\r\n{"):
        for more in ("", "TE: trailers\r\n"):
            async with raw_connection(port) as (reader, writer):
                writer.write(f"{HEAD}{more}{rest}".encode())
                writer.write_eof()
                await reader.read()
    metrics = await collector.metrics()
    assert metrics['impact_failed_total{reason="fault"}'] == 0
    assert "fault" not in collector.log


async def test_a_good_request_is_counted_wherever_it_and_the_garbage_behind_it_are_cut(
    running: tuple[Program, int],
) -> None:
    """Also within the end of its headers, when aiohttp reads it: it must not be forgotten."""
    first = f"{HEAD}TE: trailers\r\nContent-Length: 0\r\n\r\n".encode()
    second, garbage = first, b"\0garbage\r\n\r\n"
    for left in range(5):
        async with raw_connection(running[1]) as (reader, writer):
            writer.write(first)
            await reader.readuntil(b" 201 ")
            writer.write(second[: len(second) - left])
            await reader.readuntil(b'"session"}}')  # the first is answered: one segment
            await writer.drain()
            writer.write(second[len(second) - left :] + garbage)
            rest = await reader.read()
            assert [int(one) for one in re.findall(rb"HTTP/1.1 (\d+) ", rest)] == [201, 400], left


async def test_many_requests_at_once_that_aiohttp_reads_are_all_answered(
    running: tuple[Program, int],
) -> None:
    """It keeps those beyond 32 to itself, and goes on with them later."""
    with_body = f"{HEAD}TE: trailers\r\nContent-Length: 2\r\n\r\n{{}}"
    without = f"{HEAD}TE: trailers\r\nContent-Length: 0\r\n\r\n"
    async with raw_connection(running[1]) as (reader, writer):
        writer.write((with_body + without).encode() * 40)
        for _ in range(80):
            await reader.readuntil(b" 201 ")


async def test_a_body_far_too_large_is_refused_once(running: tuple[Program, int]) -> None:
    """What comes of it after the answer is no request, and resets no connection."""
    collector, port = running
    refused = 'impact_rejected_total{reason="headers_too_large"}'
    before = (await collector.metrics())[refused]
    async with raw_connection(port) as (reader, writer):
        writer.write(f"{HEAD}Content-Length: 1000000\r\n\r\n".encode() + b"a" * 1_000_000)
        answers = await reader.read()
    assert re.findall(rb"HTTP/1.1 (\d+) ", answers) == [b"413"]
    assert (await collector.metrics())[refused] == before
