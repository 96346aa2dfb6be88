"""runtime/service_manager.py: which notifications systemd gets."""

import asyncio
import socket
from contextlib import suppress

import pytest

from runtime.service_manager import ServiceManager


def settings_of(systemd: socket.socket, patience_seconds: float) -> dict[str, str]:
    patience = str(int(patience_seconds * 1_000_000))
    return {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": patience}


def test_a_loop_that_is_late_counts_as_hanging_until_it_goes_on() -> None:
    now = 0.0
    service = ServiceManager({}, lambda: now)
    assert service.all_turn, "there is none yet"
    short, long = service.watch(10.0), service.watch(100.0)
    now = 50.0
    assert not service.all_turn
    short()
    assert service.all_turn
    now = 101.0
    short()
    assert not service.all_turn, "the other one"
    long()
    assert service.all_turn


async def test_watchdog_notifications_come_in_time_while_all_loops_go_on(
    systemd: socket.socket,
) -> None:
    now = 0.0
    async with ServiceManager(settings_of(systemd, 0.2), lambda: now) as service:
        service.started()
        beat = service.watch(10.0)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60):
            messages = [await loop.sock_recv(systemd, 100) for _ in range(3)]
        assert sorted(messages) == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        now = 11.0
        with suppress(TimeoutError):
            while True:  # what was sent before; then nothing for ten times the interval
                async with asyncio.timeout(0.5):
                    await loop.sock_recv(systemd, 100)
        beat()
        async with asyncio.timeout(60):
            assert await loop.sock_recv(systemd, 100) == b"WATCHDOG=1"


async def test_without_a_watchdog_only_the_start_is_notified(systemd: socket.socket) -> None:
    async with ServiceManager({"NOTIFY_SOCKET": systemd.getsockname()}) as service:
        service.watch(10.0)()
        service.started()
        assert systemd.recv(100) == b"READY=1"
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


async def test_an_abstract_socket_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # the kernel chooses a name
        name = listening.getsockname().decode()
        ServiceManager({"NOTIFY_SOCKET": "@" + name[1:]}).started()
        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize("settings", [{}, {"NOTIFY_SOCKET": "/nowhere/gone"}])
async def test_without_a_socket_nothing_fails(settings: dict[str, str]) -> None:
    """The variable may be inherited."""
    async with ServiceManager(settings) as service:
        service.watch(10.0)()
        service.started()
