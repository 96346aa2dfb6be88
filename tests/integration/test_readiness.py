"""`/readyz`: whether a process is to be given work. `/livez` and the watchdog: that it lives."""

import asyncio
import socket
from collections.abc import Collection
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from contract import keys
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.servers import Servers
from tests.system import Program, System, eventually, until

NOWHERE = {
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "DATABASE_URL": "postgresql://postgres@127.0.0.1:1/impact",
}


async def ask(program: Program, page: str) -> tuple[int, Any]:
    try:
        async with aiohttp.ClientSession() as http, http.get(program.admin_url + page) as answer:
            return answer.status, await answer.json()
    except aiohttp.ClientConnectionError:
        return 0, None


async def page_with(program: Program, key: str, checks: Collection[str]) -> tuple[int, Any]:
    """`/readyz`, once exactly these checks are under a key of its document."""

    async def readyz() -> tuple[int, Any]:
        return await ask(program, "/readyz")

    return await eventually(readyz, lambda told: bool(told[1]) and {*told[1][key]} == {*checks})


async def fails(program: Program, *checks: str) -> None:
    """Waits until exactly these checks fail."""
    status, page = await page_with(program, "failed", checks)
    assert (status, page["ready"]) == (503, False)
    assert all(isinstance(why, str) and why for why in page["failed"].values())


async def warns(program: Program, *checks: str) -> None:
    """Waits until exactly these are warned of, and sees that nothing fails for that."""
    status, page = await page_with(program, "warnings", checks)
    assert (status, page["ready"], page["failed"]) == (200, True, {})


@pytest.mark.long
async def test_a_collector_without_traffic_knows_whether_redis_takes_writes(
    system: System, redis: Redis
) -> None:
    (collector,) = await system.start("collector")
    assert await redis.exists(keys.probe(0))
    await warns(collector)
    await redis.config_set("maxmemory", "1")
    try:
        await warns(collector, "write", "buffer")
        assert await ask(collector, "/livez") == (200, {"live": True})
    finally:
        await redis.config_set("maxmemory", "0")
    await warns(collector)


async def test_a_collector_stays_in_the_balancer_while_the_redis_of_all_is_away(
    system: System, embedded_servers: Servers
) -> None:
    """There is no better one, and its 503 is one that a page can read."""
    (collector,) = await system.start("collector")
    await asyncio.to_thread(embedded_servers.redis.stop)
    try:
        late = system.program("collector").start()
        headers = {"User-Agent": FIREFOX, "Origin": "https://city.example.org"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(system.url + SESSIONS, headers=headers) as answer,
        ):
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.headers["Access-Control-Allow-Origin"] == headers["Origin"]
            assert answer.headers["Access-Control-Expose-Headers"] == "Retry-After"
        await warns(collector, "write", "buffer")
        await fails(late, "write", "salt", "restart")
    finally:
        await asyncio.to_thread(embedded_servers.redis.start)
    await warns(collector)
    await warns(late)


async def test_a_collector_that_can_not_write_as_it_is_set_up_never_becomes_ready(
    system: System, redis: Redis
) -> None:
    """A rolling update stops before a release with wrong settings has replaced one that works."""
    await redis.acl_setuser(
        "wrong", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-set"]
    )
    try:
        url = system.redis_url.replace("//", "//wrong:x@")
        collector = system.program("collector", REDIS_URL=url, SALT_REDIS_URL=system.redis_url)
        collector.start()
        await fails(collector, "write")
    finally:
        await redis.acl_deluser("wrong")


async def test_a_collector_that_is_asked_to_stop_is_not_ready(system: System) -> None:
    (collector,) = await system.start("collector")
    async with (
        aiohttp.ClientSession() as http,
        http.get(system.url) as answer,  # kept alive: it is waited for
    ):
        assert answer.status == 404
        collector.running.terminate()
        await fails(collector, "draining", "listening")
    assert await collector.exit_code() == 0


async def test_a_flusher_without_postgres_is_not_ready_though_it_has_nothing_to_do(
    system: System,
) -> None:
    program = system.program("flusher", DATABASE_URL=NOWHERE["DATABASE_URL"]).start()
    await fails(program, "flush", "postgres")
    assert await ask(program, "/livez") == (200, {"live": True})


async def test_a_flusher_without_redis_blames_redis_and_not_postgres(system: System) -> None:
    """On its page and in its log."""
    program = system.program("flusher", REDIS_URL=NOWHERE["REDIS_URL"]).start()
    await fails(program, "flush", "redis")
    await until(lambda: "a batch has to wait" in program.log)
    line = next(line for line in program.log.splitlines() if "a batch has to wait" in line)
    assert "that Redis is up" in line
    assert "PostgreSQL" not in line


_PATIENCE_SECONDS = 1.0


async def hear(systemd: socket.socket, seconds: float = 60.0) -> bytes:
    async with asyncio.timeout(seconds):
        return await asyncio.get_running_loop().sock_recv(systemd, 100)


async def until_silent(systemd: socket.socket) -> None:
    """Waits until nothing was heard for as long as systemd waits."""
    try:
        while True:
            await hear(systemd, _PATIENCE_SECONDS)
    except TimeoutError:
        return


@pytest.mark.parametrize(
    ("module", "checks"),
    [
        ("collector", {"write", "salt", "restart"}),
        ("flusher", {"flush", "redis", "postgres"}),
        ("rotation", {"salt"}),
    ],
)
async def test_a_process_that_waits_for_its_servers_lives_and_a_frozen_one_does_not(
    module: str, checks: set[str], systemd: socket.socket, tmp_path: Path
) -> None:
    """The one that waits is not ready either."""
    with System(NOWHERE["REDIS_URL"], NOWHERE["DATABASE_URL"], tmp_path / "logs") as system:
        program = system.program(
            module,
            NOTIFY_SOCKET=systemd.getsockname(),
            WATCHDOG_USEC=str(int(_PATIENCE_SECONDS * 1_000_000)),
        ).start()
        while await hear(systemd) != b"READY=1":
            pass
        # `systemctl start` returns now: its pages are there.
        assert await ask(program, "/livez") == (200, {"live": True})
        for _ in range(6):  # for longer than systemd's patience, with its servers away
            assert await hear(systemd) == b"WATCHDOG=1"
        await fails(program, *checks)
        program.freeze()
        await until_silent(systemd)
        program.thaw()
        assert await hear(systemd) == b"WATCHDOG=1"
        await program.stop()


async def test_a_process_that_cannot_start_says_nothing(
    systemd: socket.socket, tmp_path: Path
) -> None:
    """`systemctl start` then fails, with its one line in the journal."""
    with System(NOWHERE["REDIS_URL"], "", tmp_path / "logs") as system:
        program = system.program("flusher", NOTIFY_SOCKET=systemd.getsockname()).start()
        assert await program.exit_code() == 2
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
