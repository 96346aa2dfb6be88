"""collector/http/connections.py: the state of each connection, and how long it may last."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from functools import partial

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from collector.http import connections
from collector.http.answering import Answering, CommonHeaders
from collector.http.answers import make
from collector.http.connection import Connection, Parts
from collector.http.connections import Connections, Phase
from collector.http.request import Request, Respond
from collector.http.routes import Route, Routes
from collector.http.unusual import UnusualConnection, UnusualServer
from collector.http.usual import UsualRequests
from collector.http.written import Written
from contract.collector_metrics import CollectorMetrics
from tests.adversity.test_floods import raw_connection
from tests.instant import NOON_US
from tests.system import eventually


class Front:
    """Connections as a collector has them. The test says when the sweep runs."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        metrics = CollectorMetrics(self.registry)
        self.connections = Connections(100, metrics)
        self.port = 0
        self.asked = 0
        self.held: list[Respond] | None = None
        routes = Routes((Route("POST", "/sessions", "start", self.answer),))
        answering = Answering(CommonHeaders(lambda: NOON_US, lambda _: False), metrics)
        self.unusual = UnusualServer(self.serve, answering, self.connections)
        parts = Parts(answering, self.connections, UsualRequests(routes), self.unusual)
        self.protocol = lambda: Connection(parts)

    def answer(self, _: Request, respond: Respond) -> None:
        self.asked += 1
        if self.held is None:
            respond(make(200, b"here"))
        else:
            self.held.append(respond)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked += 1
        connection = request.protocol
        assert isinstance(connection, UnusualConnection)
        connection.request_begins(request.content)
        await request.read()
        connection.body_received()
        connection.request_ends()
        return Written(
            request, make(200, b"here"), b"", connection.close_when_answered, keep_alive=True
        )

    def closed(self, reason: str) -> float | None:
        return self.registry.get_sample_value("impact_connections_closed_total", {"reason": reason})

    async def there(self) -> int:
        return len(self.connections)


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    front = Front()
    listener = await asyncio.get_running_loop().create_server(
        front.connections.admit(front.protocol), "127.0.0.1", 0
    )
    # Its connections get it from it: a client that does not read is soon felt.
    listener.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    front.port = listener.sockets[0].getsockname()[1]
    yield front
    listener.close()
    front.connections.abort()
    assert await front.connections.wait_until_none(5)
    await front.unusual.shutdown(1)


USUAL = b"POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
UNUSUAL = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("before", [b"", USUAL, UNUSUAL])
@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        pytest.param(b"POST / HTTP/1.1\r\nHost: a", 10, id="a part of its headers"),
        pytest.param(USUAL[:-1], 20, id="of its body"),
        pytest.param(
            b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab", 20, id="the same"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            20,
            id="of its chunks",
        ),
    ],
)
async def test_a_request_that_does_not_arrive_in_time_is_cut_off(
    front: Front, before: bytes, sent: bytes, seconds: int
) -> None:
    """The first of a connection, and one behind another, by our parser and by aiohttp."""
    async with raw_connection(front.port) as (reader, writer):
        if before:
            writer.write(before)
            await reader.readuntil(b"here")
        writer.write(sent)
        arriving = {Phase.HEAD, Phase.BODY}
        await eventually(partial(stands, front), lambda found: found in arriving)
        assert front.connections.sweep_once(1000) == 0
        assert front.connections.sweep_once(999 + seconds) == 0
        assert front.connections.sweep_once(1000 + seconds) == 1
        with suppress(ConnectionResetError):  # where something of it was not read yet
            assert await reader.read() == b""
    assert front.closed("slow") == 1


async def stands(front: Front) -> Phase | None:
    (connection,) = front.connections._all or (None,)
    return connection.phase if connection else None


async def test_a_connection_on_which_nothing_comes_is_cut_off(front: Front) -> None:
    async with raw_connection(front.port) as (reader, _):
        await eventually(front.there)
        assert front.connections.sweep_once(1000) == 0
        assert front.connections.sweep_once(1021) == 1
        with suppress(ConnectionResetError):
            assert await reader.read() == b""


@pytest.mark.parametrize("request_", [USUAL, UNUSUAL])
async def test_an_idle_connection_is_kept_longer_than_a_proxy_keeps_it(
    front: Front, request_: bytes
) -> None:
    async with raw_connection(front.port) as (reader, writer):
        for seconds in (1000, 1060, 1120):
            writer.write(request_)
            assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")
            await eventually(partial(stands, front), lambda found: found is Phase.IDLE)
            assert front.connections.sweep_once(seconds) == 0
        assert front.connections.sweep_once(1196) == 1


async def test_a_connection_that_waits_for_its_answer_is_not_cut_off(front: Front) -> None:
    front.held = []
    async with raw_connection(front.port) as (reader, writer):
        writer.write(USUAL)
        await eventually(partial(stands, front), lambda found: found is Phase.ANSWERING)
        assert front.connections.sweep_once(1000) == front.connections.sweep_once(2000) == 0
        front.held.pop()(make(200, b"here"))
        await reader.readuntil(b"here")


@pytest.mark.parametrize("request_", [USUAL, UNUSUAL])
async def test_a_client_that_does_not_read_is_bounded_and_cut_off(
    front: Front, request_: bytes
) -> None:
    """Otherwise its pipelined requests make megabytes of answers that wait in memory."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", front.port))
        client.setblocking(False)
        sent = 0

        async def send() -> Phase | None:
            nonlocal sent
            with suppress(BlockingIOError):  # it goes on where the system took no more of it
                sent += client.send((request_ * 1001)[sent % len(request_) :])
            return await stands(front)

        await eventually(send, lambda found: found is Phase.WRITING)
        asked = front.asked
        for _ in range(20):
            await send()
            await asyncio.sleep(0)  # the loop's other tasks have a turn
        assert front.asked <= asked + 1, "no more is begun"
        assert front.connections.sweep_once(1000) == 0
        assert front.connections.sweep_once(1011) == 1
        await eventually(front.there, lambda count: count == 0)
    assert front.closed("unread") == 1


async def test_the_bytes_of_all_unfinished_requests_are_limited(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_UNFINISHED", 100_000)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            reader, writer = await stack.enter_async_context(raw_connection(front.port))
            writer.write(b"POST /sessions HTTP/1.1\r\n" + (b"X: " + b"a" * 10_000 + b"\r\n") * 3)
        answered = await reader.read()
        assert answered.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 5\r\n" in answered
    await eventually(front.there, lambda count: count == 0)
    async with raw_connection(front.port) as (reader, writer):
        writer.write(USUAL)
        await reader.readuntil(b"here")
    assert front.connections.count_unfinished(0)
    assert front.connections._unfinished == 0, "all of it was given back"
