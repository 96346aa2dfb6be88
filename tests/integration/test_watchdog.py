"""What systemd hears of a process: when it has started, and whether it lives."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.forked import MODULES
from tests.system import System

# Its servers are away: nothing listens there.
NOWHERE = {
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "DATABASE_URL": "postgresql://postgres@127.0.0.1:1/impact",
}
_PATIENCE_SECONDS = 1.0


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


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


@pytest.mark.parametrize("module", MODULES)
async def test_a_process_that_waits_for_its_servers_lives_and_a_frozen_one_does_not(
    module: str, systemd: socket.socket, tmp_path: Path
) -> None:
    with System(NOWHERE["REDIS_URL"], NOWHERE["DATABASE_URL"], tmp_path / "logs") as system:
        program = system.program(
            module,
            NOTIFY_SOCKET=systemd.getsockname(),
            WATCHDOG_USEC=str(int(_PATIENCE_SECONDS * 1_000_000)),
        ).start()
        while await hear(systemd) != b"READY=1":
            pass
        # `systemctl start` returns now: its pages are there.
        async with (
            aiohttp.ClientSession() as http,
            http.get(program.admin_url + "/livez") as answer,
        ):
            assert answer.status == 200
        for _ in range(6):  # for longer than systemd's patience, with its servers away
            assert await hear(systemd) == b"WATCHDOG=1"
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
