"""runtime/service_manager.py: what systemd is told of hanging loops, and where.

`tests/integration/test_readiness.py` has the notifications of real processes.
"""

import socket

import pytest

from runtime.service_manager import ServiceManager


async def test_a_loop_that_is_late_stops_the_watchdogs_notifications_until_it_goes_on(
    systemd: socket.socket,
) -> None:
    now = 0.0
    service = ServiceManager({"NOTIFY_SOCKET": systemd.getsockname()}, lambda: now)
    assert service.all_turn, "there is none yet"
    short, long = service.watch(10.0), service.watch(100.0)
    now = 50.0
    await service._notify_alive()
    with pytest.raises(BlockingIOError):
        systemd.recv(100)
    short()
    await service._notify_alive()
    assert systemd.recv(100) == b"WATCHDOG=1"
    now = 101.0
    short()
    assert not service.all_turn, "the other one"
    long()
    assert service.all_turn


def test_an_abstract_socket_is_found_and_one_that_is_gone_is_no_error() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # the kernel chooses a name
        name = listening.getsockname().decode()
        ServiceManager({"NOTIFY_SOCKET": "@" + name[1:]}).started()
        assert listening.recv(100) == b"READY=1"
    ServiceManager({"NOTIFY_SOCKET": "/nowhere/gone"}).started()
