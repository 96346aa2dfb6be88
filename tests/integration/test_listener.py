"""The port and its hand-over."""

import asyncio
import socket

import pytest

from collector.http.listener import Listener
from tests.system import find_free_port


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.close()


async def test_connections_that_wait_while_the_port_is_closed_are_served() -> None:
    """The kernel has made them, and the process was too busy to take them before it left."""
    listener, port = Listener(), find_free_port()
    await listener.open("127.0.0.1", port, _Echo)
    # Nothing is awaited from here on, so that the loop can't accept them.
    waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    for number, connection in enumerate(waiting):
        connection.sendall(b"%d" % number)
    await listener.close()
    for number, connection in enumerate(waiting):
        with connection:
            connection.settimeout(30)
            assert await asyncio.to_thread(connection.recv, 10) == b"%d" % number
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


async def test_a_name_is_listened_on_at_each_of_its_addresses() -> None:
    listener, port = Listener(), find_free_port()
    await listener.open("localhost", port, _Echo)
    for family, *_, address in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM):
        with socket.socket(family) as connection:
            connection.connect(address)
            assert connection.getpeername()[:2] == address[:2]
    await listener.close()
