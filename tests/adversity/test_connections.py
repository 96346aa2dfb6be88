"""collector/http/connections.py: the state of each connection, and how long it may last."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from functools import partial

import pytest
from aiohttp import web

from collector.buffer.pending import OnResult
from collector.http import connections
from collector.http.connections import Phase
from tests.adversity.test_floods import HEAD, TOO_LARGE, raw_connection
from tests.system import eventually
from tests.whole_collector import Collector


class Front(Collector):
    """A collector that listens. The test says when the sweep runs."""

    port = 0

    @property
    def asked(self) -> int:
        return sum(map(len, self.stored.of_site.values()))

    def closed(self, reason: str) -> float | None:
        return self.registry.get_sample_value("impact_connections_closed_total", {"reason": reason})

    async def there(self) -> int:
        return len(self.connections)


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    front = Front()
    listener = await asyncio.get_running_loop().create_server(
        front.connections.admit(front.server.protocol), "127.0.0.1", 0
    )
    # Its connections get it from it: a client that does not read is soon felt.
    listener.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    front.port = listener.sockets[0].getsockname()[1]
    yield front
    listener.close()
    front.connections.abort()
    await front.server.stop()


USUAL = f"{HEAD}Content-Length: 2\r\n\r\n{{}}".encode()
UNUSUAL = f"{HEAD}TE: trailers\r\nContent-Length: 2\r\n\r\n{{}}".encode()
END = b'"session"}}'  # of an answer


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
            await reader.readuntil(END)
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
            assert (await reader.readuntil(END)).startswith(b"HTTP/1.1 201")
            await eventually(partial(stands, front), lambda found: found is Phase.IDLE)
            assert front.connections.sweep_once(seconds) == 0
        assert front.connections.sweep_once(1196) == 1


async def test_a_connection_that_waits_for_its_answer_is_not_cut_off(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[OnResult] = []
    monkeypatch.setattr(front.stored, "append", lambda _, __, on_result: held.append(on_result))
    async with raw_connection(front.port) as (reader, writer):
        writer.write(USUAL)
        await eventually(partial(stands, front), lambda found: found is Phase.ANSWERING)
        assert front.connections.sweep_once(1000) == front.connections.sweep_once(2000) == 0
        held.pop()(None)
        await reader.readuntil(END)


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
        await reader.readuntil(END)
    assert front.connections.count_unfinished(0)
    assert front.connections._unfinished == 0, "all of it was given back"


async def test_nothing_of_a_refused_request_stays_in_memory(front: Front) -> None:
    async def requests() -> int:
        gc.collect()
        return sum(issubclass(type(each), web.BaseRequest) for each in gc.get_objects())

    before = await requests()
    for request, _ in TOO_LARGE.values():
        async with raw_connection(front.port) as (reader, writer):
            writer.write(UNUSUAL)
            await reader.readuntil(END)
            writer.write(request.encode())
            await reader.readline()
    await eventually(requests, lambda left: left == before)
