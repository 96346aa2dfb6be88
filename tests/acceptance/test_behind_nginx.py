"""A real nginx with `deploy/nginx/impact.conf` in front of a collector."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
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
from embedded.valkey import ValkeyServer
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.nginx import installed_nginx, nginx_before
from tests.servers import Servers
from tests.system import ROOT, System, eventually


@pytest.fixture
def system(embedded_servers: Servers, redis: Redis, tmp_path: Path) -> Iterator[System]:
    assert redis is not None  # an empty one
    with System(embedded_servers.redis.url, "postgresql://none", tmp_path / "logs") as system:
        yield system


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


async def test_the_collectors_limit_of_the_body_holds_and_other_doors_are_closed(
    system: System, front: str
) -> None:
    await system.start("collector")
    await answers(front)
    async with aiohttp.ClientSession() as http:
        text = {"Content-Type": "text/plain"}
        fits, exceeds = ('{"x":"' + "a" * size + '"}' for size in (16_376, 16_377))
        assert len(fits) == 16_384
        assert (await start(http, front, fits, **text))[0] == 201
        assert (await start(http, front, exceeds, **text))[0] == 413
        for page in ("/metrics", "/readyz", "/"):
            async with http.get(front + page) as answer:
                assert answer.status == 404


async def test_the_beacon_has_another_name_for_who_blocks_the_first(
    system: System, front: str
) -> None:
    """The one that beacon/README.md gives as its example."""
    await system.start("collector")
    await answers(front)
    name = "/our-launch.js"
    assert name in (ROOT / "beacon/README.md").read_text()
    async with aiohttp.ClientSession() as http:
        bodies = []
        for path in ("/beacon.js", name):
            async with http.get(front + path) as answer:
                assert answer.status == 200
                assert answer.content_type == "text/javascript"
                bodies.append(await answer.read())
    assert bodies[0] == bodies[1]


async def test_connections_to_the_collector_are_kept(system: System, front: str) -> None:
    (collector,) = await system.start("collector")
    await answers(front)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        for _ in range(30):
            assert (await start(http, front))[0] == 201
    metrics = await eventually(collector.metrics, lambda told: told["impact_connections"] > 0)
    assert metrics["impact_connections"] <= 2, "thirty clients, and nginx's connections"


def test_nginx_gives_up_a_connection_before_the_collector_does() -> None:
    text = (ROOT / "deploy/nginx/impact.conf").read_text()
    (seconds,) = re.findall(r"^upstream [^}]* keepalive_timeout (\d+)s;", text, re.MULTILINE)
    assert int(seconds) < KEEPALIVE_SECONDS


async def test_a_front_end_is_not_disturbed_by_a_collector_that_is_replaced(
    system: System, front: str
) -> None:
    """Nginx is told of each connection's end, and asks the next collector."""
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
    """The same visitor to each, drained without a failed request, and a host that vanished."""
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
            told = [await asyncio.wait_for(start(http, front), 30) for _ in range(12)]
            for collector in (one, other):
                metrics = await collector.metrics()
                accepted = [n for name, n in metrics.items() if "accepted_total" in name]
                assert sum(accepted) > 0, "both are asked"
            stopping = asyncio.create_task(one.stop())
            while not stopping.done():
                told.append(await start(http, front))
            assert await stopping == 0
            told += [await start(http, front) for _ in range(12)]
    assert {status for status, _ in told} == {201}
    found = await hashes(redis)
    assert len(found) == len(told)
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


async def test_one_address_is_bounded_in_its_rate_and_another_does_not_feel_it(front: str) -> None:
    """No collector runs, which is what 502 says of a request that nginx lets through."""
    await answers(front)
    asked = await statuses(front, "127.0.0.2", 3000, 50)
    assert set(asked) == {502, 429}
    assert asked.count(502) >= 501, "who shares an address comes at once, too"
    assert await statuses(front, "127.0.0.3", 100, 50) == [502] * 100


async def test_one_address_is_bounded_in_what_it_has_under_way(system: System, front: str) -> None:
    (collector,) = await system.start("collector")
    await answers(front)
    collector.freeze()
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0), limit=300)
    async with aiohttp.ClientSession(connector=connector) as http:
        flood = [asyncio.create_task(start(http, front)) for _ in range(300)]

        async def answered() -> list[int]:
            return [task.result()[0] for task in flood if task.done()]

        assert await eventually(answered, lambda seen: len(seen) >= 50) == [429] * 50
        other = asyncio.create_task(statuses(front, "127.0.0.3", 1, 1))
        collector.thaw()
        assert await other == [201]
        assert [status for status, _ in await asyncio.gather(*flood)].count(201) == 250


async def test_a_long_line_and_a_long_body_reach_the_collector(system: System, front: str) -> None:
    """What is too much, it says itself, in a form that front-ends can read."""
    await system.start("collector")
    await answers(front)
    async with aiohttp.ClientSession() as http:
        for headers, body in (
            ({"Cookie": "a" * (16 * 1024)}, b""),
            ({"Content-Type": "text/plain"}, b"a" * (16 * 1024)),
        ):
            request = http.post(
                front + SESSIONS, data=body, headers={"User-Agent": FIREFOX, **headers}
            )
            async with request as answer:
                assert "nginx" not in await answer.text()


@pytest.fixture
def debian(tmp_path: Path) -> Iterator[int]:
    """The process of an nginx with Debian's own configuration and the site as it is shipped.

    In namespaces of its own, where port 80 is free and its files are in their places.
    """
    program = installed_nginx()  # its configuration stays when Debian's package is removed
    installed = Path("/etc/nginx")
    if not (installed / "sites-enabled/default").exists():
        pytest.skip("no nginx with its default site here (Debian: nginx-light)")
    if os.geteuid() != 0:
        pytest.skip("not root, who alone may make namespaces")
    configuration = tmp_path / "nginx"
    shutil.copytree(installed, configuration, symlinks=True)
    shutil.copy(ROOT / "deploy/nginx/impact.conf", configuration / "sites-enabled")
    script = f"""
        {sys.executable} -c '
import fcntl, socket, struct
lo_is_up = struct.pack("16sh", b"lo", 0x41)  # IFF_UP, IFF_RUNNING
fcntl.ioctl(socket.socket(), 0x8914, lo_is_up)  # SIOCSIFFLAGS
'
        mount --bind {configuration} /etc/nginx
        mount -t tmpfs tmpfs /run
        mount -t tmpfs tmpfs /var/log/nginx
        exec {program} -g "daemon off;"
    """
    with (tmp_path / "nginx.log").open("wb") as log:
        process = subprocess.Popen(
            [*_UNSHARE, "--net", "--mount", "/bin/sh", "-euc", script], stdout=log, stderr=log
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


_UNSHARE = ("/usr/bin/setpriv", "--pdeathsig", "KILL", "/usr/bin/unshare")
_ASK = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], b"", {"User-Agent": sys.argv[2], "Host": sys.argv[3]})
print(urllib.request.urlopen(request).status)
"""


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
async def test_the_site_as_it_is_shipped_works_beside_debians_default_site(
    debian: int, address: str, tmp_path: Path
) -> None:
    inside = ["/usr/bin/nsenter", "--target", str(debian), "--net"]
    socket = tmp_path / "redis.socket"

    async def ask() -> int:
        process = await asyncio.create_subprocess_exec(
            *inside,
            *(sys.executable, "-c", _ASK, f"http://{address}{SESSIONS}", FIREFOX, "city.example"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        return int(output or 0)

    with ValkeyServer(tmp_path / "redis", config={"unixsocket": str(socket)}):
        collector = await asyncio.create_subprocess_exec(
            *inside,
            *(sys.executable, "-m", "collector"),
            cwd=ROOT,
            env={**os.environ, "REDIS_URL": f"unix://{socket}", "HOST": "127.0.0.1"},
        )
        try:
            await eventually(ask, lambda status: status == 201)
        finally:
            collector.terminate()
            await collector.wait()
