"""A real nginx with `deploy/nginx/impact.conf` in front of a collector."""

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from redis.asyncio import Redis

from collector.http.connections import KEEPALIVE_SECONDS
from contract import keys
from contract.record import FIELD, SessionStarted, decode
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.nginx import nginx_before
from tests.system import ROOT, System, eventually, until


@pytest.fixture
def front(system: System, tmp_path: Path) -> Iterator[str]:
    """The URL of an nginx."""
    with nginx_before(system.port, tmp_path) as port:
        yield f"http://127.0.0.1:{port}"


async def answers(url: str) -> None:
    async def look() -> int:
        with suppress(OSError):
            async with aiohttp.ClientSession() as http, http.get(url) as answer:
                return answer.status
        return 0

    await eventually(look)


async def hashes(redis: Redis) -> dict[UUID | None, bytes]:
    """The hash of each session in the streams."""
    found: dict[UUID | None, bytes] = {}
    for shard in range(8):
        entries: Any = await redis.xrange(keys.stream(shard))
        for _, fields in entries:
            event = decode(fields[FIELD])
            assert isinstance(event, SessionStarted)
            found[UUID(bytes=event.id)] = event.monthly_user_hash
    return found


async def start(
    http: aiohttp.ClientSession, url: str, body: str = "", **headers: str
) -> tuple[int, UUID | None]:
    async with http.post(
        url + SESSIONS, data=body, headers={"User-Agent": FIREFOX, **headers}
    ) as answer:
        document = await answer.json() if answer.status == 201 else {}
        return answer.status, UUID(document["data"]["id"]) if document else None


async def test_the_clients_address_comes_through_and_cannot_be_forged(
    system: System, front: str, redis: Redis
) -> None:
    collector = await system.program("collector", TRUSTED_PROXIES="127.0.0.1").start().ready()
    await answers(front)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))) as ada,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=("127.0.0.3", 0))) as ben,
    ):
        (_, one), (_, two) = await start(ada, front), await start(ben, front)
        (_, forged) = await start(ada, front, **{"X-Forwarded-For": "127.0.0.3"})
    # As if nginx were not there.
    headers = {"X-Forwarded-For": "127.0.0.2", "X-Forwarded-Host": "127.0.0.1"}
    async with aiohttp.ClientSession() as http:
        (_, direct) = await start(http, system.url, **headers)
    assert None not in (one, two, forged, direct)
    found = await hashes(redis)
    assert found[one] != found[two], "two addresses are two visitors"
    assert found[forged] == found[one], "what a client claims of itself is not believed"
    assert found[direct] == found[one]
    assert await collector.stop() == 0


async def test_pages_and_large_requests_reach_the_collector_and_admin_pages_do_not(
    system: System, front: str
) -> None:
    """On connections that nginx keeps. The collector itself refuses what is too large, in a form
    that front-ends can read.
    """
    (collector,) = await system.start("collector")
    await answers(front)
    text = {"Content-Type": "text/plain"}
    fits, exceeds = ('{"x":"' + "a" * size + '"}' for size in (16_376, 16_377))
    assert len(fits) == 16_384
    another_name = "/our-launch.js"  # for visitors whose browser blocks the first
    assert another_name in (ROOT / "beacon/README.md").read_text()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        assert (await start(http, front, fits, **text))[0] == 201
        assert (await start(http, front, exceeds, **text))[0] == 413
        async with http.post(front + SESSIONS, headers={"Cookie": "a" * 16 * 1024}) as answer:
            assert "nginx" not in await answer.text()
        bodies = []
        for path in ("/beacon.js", another_name):
            async with http.get(front + path) as answer:
                assert (answer.status, answer.content_type) == (200, "text/javascript")
                bodies.append(await answer.read())
        assert bodies[0] == bodies[1]
        for page in ("/metrics", "/readyz", "/"):
            async with http.get(front + page) as answer:
                assert answer.status == 404
        for _ in range(30):
            assert (await start(http, front))[0] == 201
    metrics = await eventually(collector.metrics, lambda found: found["impact_connections"] > 0)
    assert metrics["impact_connections"] <= 2, "thirty clients, and nginx's connections"


def test_nginx_gives_up_a_connection_before_the_collector_does() -> None:
    text = (ROOT / "deploy/nginx/impact.conf").read_text()
    (seconds,) = re.findall(r"^upstream [^}]* keepalive_timeout (\d+)s;", text, re.MULTILINE)
    assert int(seconds) < KEEPALIVE_SECONDS


async def test_a_front_end_is_not_disturbed_by_a_collector_that_is_replaced(
    system: System, front: str
) -> None:
    """Nginx notices each connection's end, and sends the request to the next collector."""
    old, new = system.program("collector").start(), system.program("collector").start()
    await asyncio.gather(old.ready(), new.ready())
    await answers(front)
    async with aiohttp.ClientSession() as http:
        stopping = asyncio.create_task(old.stop())
        statuses = []
        while not stopping.done():
            statuses.append((await start(http, front))[0])
        assert await stopping == 0
    assert set(statuses) == {201}


async def test_collectors_on_several_hosts_are_one(
    system: System, redis: Redis, tmp_path: Path
) -> None:
    """A visitor is the same to each; one stops without a failed request, and one has vanished."""
    hosts = ("127.0.0.11", "127.0.0.12")
    gone = "127.0.0.13"
    one, other = (
        system.program("collector", HOST=host, TRUSTED_PROXIES="127.0.0.1").start()
        for host in hosts
    )
    await asyncio.gather(one.ready(), other.ready())
    with (
        swallowing(gone, system.port),
        nginx_before(system.port, tmp_path, [*hosts, gone]) as port,
    ):
        front = f"http://127.0.0.1:{port}"
        await answers(front)
        ada = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        async with aiohttp.ClientSession(connector=ada) as http:
            seen = [await asyncio.wait_for(start(http, front), 30) for _ in range(12)]
            for collector in (one, other):
                metrics = await collector.metrics()
                accepted = [n for name, n in metrics.items() if "accepted_total" in name]
                assert sum(accepted) > 0, "both received some"
            stopping = asyncio.create_task(one.stop())
            while not stopping.done():
                seen.append(await start(http, front))
            assert await stopping == 0
            seen += [await start(http, front) for _ in range(12)]
    assert {status for status, _ in seen} == {201}
    found = await hashes(redis)
    assert len(found) == len(seen)
    assert len(set(found.values())) == 1, "one visitor, whichever collector was asked"


@contextmanager
def swallowing(host: str, port: int) -> Iterator[None]:
    """A host that answers nothing, not even to a connection: its queue of them is full."""
    with socket.socket() as listening, socket.socket() as first:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(0)
        first.connect((host, port))
        yield


async def statuses(url: str, client: str, requests: int, at_once: int) -> list[int]:
    """The answers to one address's launches."""
    connector = aiohttp.TCPConnector(local_addr=(client, 0), limit=at_once)
    async with aiohttp.ClientSession(connector=connector) as http:
        answered = await asyncio.gather(*(start(http, url) for _ in range(requests)))
    return [status for status, _ in answered]


async def test_the_rate_of_one_address_is_limited_and_that_of_another_is_not(front: str) -> None:
    """No collector runs, so that 502 is the answer to a request that nginx lets through."""
    await answers(front)
    asked = await statuses(front, "127.0.0.2", 3000, 50)
    assert set(asked) == {502, 429}
    assert asked.count(502) >= 501, "many people may share an address"
    assert await statuses(front, "127.0.0.3", 100, 50) == [502] * 100


async def test_the_open_requests_of_one_address_are_limited(system: System, front: str) -> None:
    (collector,) = await system.start("collector")
    await answers(front)
    collector.freeze()
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0), limit=300)
    async with aiohttp.ClientSession(connector=connector) as http:
        flood = [asyncio.create_task(start(http, front)) for _ in range(300)]
        await until(lambda: sum(task.done() for task in flood) >= 50)
        assert {task.result()[0] for task in flood if task.done()} == {429}
        other = asyncio.create_task(statuses(front, "127.0.0.3", 1, 1))
        collector.thaw()
        assert await other == [201]
        assert [status for status, _ in await asyncio.gather(*flood)].count(201) == 250
