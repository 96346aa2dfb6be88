"""collector/http/express.py: the short way answers as aiohttp's own, and
everything else takes aiohttp's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from collector.http.express import ExpressServer, Reply
from collector.request.body import MAX_BYTES

PATH = "/beacon"
CANNED = b"HTTP/1.1 201 Created\r\nContent-Length: 7\r\n\r\nexpress"

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Answering:
    """The short way's answers, held back until `release`, and what took aiohttp's."""

    def __init__(self) -> None:
        self.open = True
        self.at_once = True
        self.seen: list[tuple[str, bytes]] = []
        self.begun_by_aiohttp = 0
        self.by_aiohttp: list[tuple[str, bytes]] = []
        self.held: list[Reply] = []

    def begin(self, headers: Any, peer: Any, body: bytes, reply: Reply) -> bool:
        if not self.open:
            return False
        assert peer[0] == "127.0.0.1"
        self.seen.append((headers.get("X-Number", ""), body))
        if self.at_once:
            reply(CANNED, keep_alive=True)
        else:
            self.held.append(reply)
        return True

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.begun_by_aiohttp += 1
        self.by_aiohttp.append((request.headers.get("X-Number", ""), await request.read()))
        return web.Response(text="aiohttp")

    def release(self, *, keep_alive: bool = True) -> None:
        self.held.pop(0)(CANNED, keep_alive=keep_alive)


@pytest.fixture
def answering() -> Answering:
    return Answering()


@pytest.fixture
async def server(answering: Answering) -> AsyncIterator[ExpressServer]:
    server = ExpressServer(answering.handle, answering, PATH, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = site.port  # type: ignore[attr-defined]  # for the tests' clients
    yield server
    await runner.cleanup()


@pytest.fixture
async def client(server: ExpressServer) -> AsyncIterator[Client]:
    port = server.port  # type: ignore[attr-defined]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield reader, writer
    writer.close()


def request(number: int, body: bytes = b"{}", path: str = PATH, more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Number: {number}\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def answer(client: Client) -> str:
    """Who answered next: the body of the answer."""
    async with asyncio.timeout(5):
        head = await client[0].readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return (await client[0].readexactly(length)).decode()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - it is another's task that is waited for
            await asyncio.sleep(0)


async def test_requests_on_one_connection_take_the_short_way(
    answering: Answering, client: Client
) -> None:
    for number in range(3):
        client[1].write(request(number, b"%d" % number))
        assert await answer(client) == "express"
    assert answering.seen == [("0", b"0"), ("1", b"1"), ("2", b"2")]
    assert not answering.by_aiohttp


async def test_a_request_without_a_body_takes_it_too(answering: Answering, client: Client) -> None:
    client[1].write(request(1, b""))
    assert await answer(client) == "express"
    assert answering.seen == [("1", b"")]


@pytest.mark.parametrize(
    "sent",
    [
        request(1, path="/other"),
        request(1, path=f"{PATH}?query"),
        request(1, b"x" * (MAX_BYTES + 1)),
        request(1).replace(b"POST", b"PATCH"),
        request(1).replace(b"HTTP/1.1", b"HTTP/1.0"),
        request(1, more="Connection: close\r\n"),
    ],
)
async def test_whatever_is_unusual_takes_aiohttps_way(
    answering: Answering, client: Client, sent: bytes
) -> None:
    client[1].write(sent)
    assert await answer(client) == "aiohttp"
    assert not answering.seen


async def test_where_the_short_way_is_closed_the_whole_request_takes_the_other(
    answering: Answering, client: Client
) -> None:
    answering.open = False
    client[1].write(request(1, b"whole"))
    assert await answer(client) == "aiohttp"
    assert answering.by_aiohttp == [("1", b"whole")]
    answering.open = True
    client[1].write(request(2))
    assert await answer(client) == "express"


async def test_a_body_that_comes_later_is_waited_for(answering: Answering, client: Client) -> None:
    whole = request(1, b"in two parts")
    client[1].write(whole[:-6])
    await until(lambda: answering.begun_by_aiohttp == 1)
    client[1].write(whole[-6:])
    assert await answer(client) == "aiohttp"
    assert answering.by_aiohttp == [("1", b"in two parts")]
    client[1].write(request(2))
    assert await answer(client) == "express"


async def test_headers_that_come_in_parts_are_put_together(
    answering: Answering, client: Client
) -> None:
    for octet in request(1):
        client[1].write(bytes((octet,)))
        await asyncio.sleep(0)
    await answer(client)
    assert [body for _, body in answering.seen + answering.by_aiohttp] == [b"{}"]


async def test_pipelined_requests_are_answered_in_order(
    answering: Answering, client: Client
) -> None:
    """The ones behind wait, also for an answer that is yet to come."""
    answering.at_once = False
    client[1].write(request(0))
    await until(lambda: len(answering.held) == 1)
    client[1].write(request(1) + request(2, path="/other") + request(3))
    await client[1].drain()
    await asyncio.sleep(0.01)  # nothing is to happen, and there is no sign of that
    assert not answering.by_aiohttp
    answering.release()
    assert [await answer(client) for _ in range(4)] == ["express", *["aiohttp"] * 3]
    assert [number for number, _ in answering.by_aiohttp] == ["1", "2", "3"]
    answering.at_once = True
    client[1].write(request(4))
    assert await answer(client) == "express"


async def test_several_at_once_on_an_idle_connection_are_all_answered_once(
    answering: Answering, client: Client
) -> None:
    client[1].write(b"".join(request(number) for number in range(5)))
    answers = [await answer(client) for _ in range(5)]
    assert answers == ["aiohttp"] * 5
    assert [number for number, _ in answering.by_aiohttp] == ["0", "1", "2", "3", "4"]


async def test_a_client_that_goes_away_before_its_answer_harms_nobody(
    answering: Answering, server: ExpressServer, client: Client
) -> None:
    answering.at_once = False
    client[1].write(request(0))
    await until(lambda: len(answering.held) == 1)
    client[1].transport.abort()
    await until(lambda: not server.connections)
    answering.release()
    assert answering.begun_by_aiohttp == 0


async def test_an_answer_may_end_the_connection(answering: Answering, client: Client) -> None:
    answering.at_once = False
    client[1].write(request(0))
    await until(lambda: len(answering.held) == 1)
    answering.release(keep_alive=False)
    assert await answer(client) == "express"
    assert await client[0].read() == b""


async def test_what_is_no_request_is_refused_by_aiohttp(client: Client) -> None:
    client[1].write(b"nonsense\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await client[0].read()).startswith(b"HTTP/1.0 400 ")


async def test_a_server_that_ends_waits_for_the_answer(answering: Answering) -> None:
    server = ExpressServer(answering.handle, answering, PATH, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    client = await asyncio.open_connection("127.0.0.1", site.port)
    answering.at_once = False
    client[1].write(request(0))
    await until(lambda: len(answering.held) == 1)
    ending = asyncio.create_task(runner.cleanup())
    await asyncio.sleep(0.05)  # nothing is to happen, and there is no sign of that
    assert not ending.done()
    answering.release()
    assert await answer(client) == "express"
    async with asyncio.timeout(2):
        await ending
    assert await client[0].read() == b""
    client[1].close()


async def test_an_idle_connection_is_closed_after_its_time_and_a_waiting_one_is_not(
    answering: Answering,
) -> None:
    server = ExpressServer(
        answering.handle, answering, PATH, access_log=None, keepalive_timeout=0.3
    )
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    client = await asyncio.open_connection("127.0.0.1", site.port)
    for number in range(4):
        client[1].write(request(number))
        assert await answer(client) == "express"
        await asyncio.sleep(0.15)  # in all longer than a connection may be idle
    async with asyncio.timeout(5):
        assert await client[0].read() == b"", "closed once it is idle"
    client[1].close()
    await runner.cleanup()
