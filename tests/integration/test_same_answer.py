"""The same bytes, the same answer: through the connection's own way, through aiohttp alone, and
through a real nginx, however they are cut, and whatever stands before and behind them.

What is taken for right is aiohttp's answer to each request that comes whole, when the one before it
was answered.
"""

import asyncio
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.nginx import nginx_before
from tests.requests import Requests, Sent
from tests.system import eventually
from tests.whole_collector import Collector, Transport

BEHIND_NGINX = 300  # as many as one address may ask at once, and fewer
CASES = 2000
AT_ONCE = 150
_MADE_ID = re.compile(rb'"id":"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}"')

Answer = tuple[int, bytes]


def answers(received: bytes) -> list[Answer]:
    """Status and body of each, with the ids that the collector makes left out."""
    found = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status == 100:
            continue
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        # HEAD has no body.
        size = int(length[1]) if length and not received.startswith(b"HTTP/") else 0
        body, received = received[:size], received[size:]
        found.append((status, _MADE_ID.sub(b'"id":"made"', body)))
    return found


async def in_turn(collector: Collector, requests: Sequence[Sent]) -> list[Answer]:
    """By aiohttp alone, each when the one before it is answered."""
    transport = Transport(collector.server.unusual_protocol())
    for number, request in enumerate(requests, 1):
        if transport.is_closing():
            break
        transport.send(request.data)
        if number == len(requests):
            transport.send_eof()
        else:
            async with asyncio.timeout(60):
                while len(answers(transport.received)) < number and not transport.is_closing():  # noqa: ASYNC110 - others' tasks are waited for
                    await asyncio.sleep(0.001)  # between two questions
    async with asyncio.timeout(60):
        await transport.ended.wait()
    return answers(transport.received)


async def at_once(collector: Collector, pieces: Sequence[bytes], *, slowly: bool) -> list[Answer]:
    """By the connection's own way, as cut; `slowly`: what is there is looked at between."""
    transport = Transport(collector.server.protocol())
    for piece in pieces:
        transport.send(piece)
        if slowly:
            await asyncio.sleep(0)
        while transport.paused and not transport.is_closing():  # noqa: ASYNC110 - others' tasks are waited for
            await asyncio.sleep(0.001)
    transport.send_eof()
    async with asyncio.timeout(60):
        await transport.ended.wait()
    return answers(transport.received)


def cut(chosen: random.Random, data: bytes) -> list[bytes]:
    """Whole, in a few pieces, or byte by byte."""
    roll = chosen.random()
    if roll < 0.3:
        return [data]
    if roll < 0.4 and len(data) < 2000:
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted(chosen.randrange(len(data)) for _ in range(chosen.choice((1, 1, 2, 5))))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]


async def compare(seed: int, front: Collector, alone: Collector) -> None:
    chosen = random.Random(seed)  # noqa: S311 - the same each time
    site = f"s{seed}.example.org"
    made = Requests(chosen, site)
    requests = [made.any() for _ in range(chosen.choice((1, 1, 2, 3, 5)))]
    pieces = cut(chosen, b"".join(request.data for request in requests))
    slowly = chosen.random() < 0.7
    expected = await in_turn(alone, requests)
    found = await at_once(front, pieces, slowly=slowly)
    told = (seed, [request.traits for request in requests], pieces)
    assert found == expected, told
    assert front.stored.of_site.get(site) == alone.stored.of_site.get(site), told


@pytest.mark.parametrize(
    "cases",
    [
        range(CASES),
        pytest.param(range(CASES, 40 * CASES), marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
async def test_made_up_requests_are_answered_as_by_aiohttp_alone(cases: range) -> None:
    front, alone = Collector(), Collector()
    for first in cases[::AT_ONCE]:
        some = range(first, min(first + AT_ONCE, cases.stop))
        await asyncio.gather(*(compare(seed, front, alone) for seed in some))
    assert len(front.stored.of_site) > len(cases) // 6, "something was stored"
    assert len(front.connections) == len(alone.connections) == 0
    assert front.connections.count_unfinished(0)
    assert front.connections._unfinished == alone.connections._unfinished == 0


@pytest.mark.parametrize("kind", ["usual", "chunked", "old", "expect", "two of another"])
async def test_a_request_may_be_cut_anywhere(kind: str) -> None:
    front, alone = Collector(), Collector()
    made = Requests(random.Random(1), "a.example.org")  # noqa: S311 - the same each time
    request = made.usual()
    while request.traits != (set() if kind == "usual" else {kind}) or len(request.data) > 1000:
        request = made.any()
    expected = await in_turn(alone, [request, request])
    data = request.data * 2
    for first in range(0, len(data), AT_ONCE):
        places = range(first, min(first + AT_ONCE, len(data)))
        found = await asyncio.gather(
            *(at_once(front, [data[:place], data[place:]], slowly=True) for place in places)
        )
        assert all(each == expected for each in found)


# What nginx passes on as it came, or in another framing. All else it refuses, or makes its own.
PASSED_ON = {
    *("chunked", "old", "expect", "close", "keep-alive", "two of another", "lower case"),
    *("white space", "empty", "coding", "no coding", "content type", "long"),
}


async def through(port: int, request: Sent) -> list[Answer]:
    """The answer that nginx gives."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.data)
    told = b""
    async with asyncio.timeout(60):
        while not (told := told + await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 "):
            pass
        while told.startswith(b"HTTP/1.1 100 "):
            told = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", told)
        told += await reader.readexactly(int(length[1]) if length else 0)
    writer.close()
    return answers(told)


async def test_made_up_requests_are_answered_as_by_aiohttp_alone_through_nginx(
    tmp_path: Path,
) -> None:
    front, alone = Collector(), Collector()
    chosen = random.Random(5)  # noqa: S311 - the same each time
    listener = await asyncio.get_running_loop().create_server(front.server.protocol, "127.0.0.1", 0)
    with nginx_before(listener.sockets[0].getsockname()[1], tmp_path) as port:

        async def listens() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
            return True

        await eventually(listens)
        for number in range(BEHIND_NGINX):
            site = f"s{number}.example.org"
            made = Requests(chosen, site)
            request = made.any()
            while not request.traits <= PASSED_ON or len(request.data) > 20_000:
                request = made.any()
            if b"/nowhere" in request.data:
                continue  # nginx says so itself
            expected = await in_turn(alone, [request])
            found = await through(port, request)
            if found[0][1].startswith(b"<html"):  # nginx has refused it itself, in its own words
                found = [(found[0][0], expected[0][1])]
            assert found == expected, request
            assert front.stored.of_site.get(site) == alone.stored.of_site.get(site), request
    listener.close()
    front.connections.abort()
    assert await front.connections.wait_until_none(5)
    assert len(front.stored.of_site) > BEHIND_NGINX // 6
