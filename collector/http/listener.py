"""Listens on the port of the collectors, and stops without losing connections.

Several collectors of one machine share a port (SO_REUSEPORT): the kernel gives each new connection
to one of them. When a listening socket is closed, the kernel resets the connections that were not
accepted yet. So a second descriptor keeps the socket open until these are accepted, or until the
next program in this process has it. Only a connection whose handshake is not complete at that
moment is lost. With `net.ipv4.tcp_migrate_req=1` the kernel gives it to another collector.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence

from contract.settings import HOST, PORT

BACKLOG = 1024  # connections that may wait to be accepted

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Listener:
    """Listens on HOST:PORT."""

    def __init__(self, kept: Sequence[socket.socket] = ()) -> None:
        """`kept`: the sockets of the program that ran in this process before."""
        self._before = kept
        self._servers: list[asyncio.Server] = []
        self._kept: list[socket.socket] = []
        self._factory: ProtocolFactory | None = None

    async def open(self, host: str, port: int, factory: ProtocolFactory) -> None:
        """Accepts connections from here on. If `host` is a name, it listens on all its addresses.

        Raises:
            Misconfigured: the address can't be listened on.
        """
        loop = asyncio.get_running_loop()
        self._factory = factory
        try:
            for listening in self._before:
                self._servers.append(
                    await loop.create_server(factory, sock=listening, backlog=BACKLOG)
                )
            if not self._before:
                self._servers.append(
                    await loop.create_server(factory, host, port, reuse_port=True, backlog=BACKLOG)
                )
            self._kept += [each.dup() for server in self._servers for each in server.sockets]
        except OSError as error:
            await self.close()
            # asyncio's text has the address once more, before the reason.
            reason = (error.strerror or str(error)).rpartition(": ")[2]
            setting = PORT if error.errno in (errno.EADDRINUSE, errno.EACCES) else HOST
            raise setting.wrong(f"{host}:{port} can't be listened on: {reason}") from None
        except UnicodeError:  # a part of the name is too long
            raise HOST.wrong("is no host name") from None

    @property
    def is_open(self) -> bool:
        return bool(self._servers)

    def pause(self) -> list[socket.socket]:
        """Accepts no more connections. New ones wait in the returned sockets."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        return self._kept

    async def close(self) -> None:
        """Accepts the connections that the kernel already has, and closes the sockets."""
        loop = asyncio.get_running_loop()
        self.pause()
        accepted = []
        for listening in self._kept:
            accepted += _accept_all(listening)
            listening.close()
        self._kept.clear()
        if self._factory is not None:
            for connection in accepted:
                await loop.connect_accepted_socket(self._factory, connection)


def _accept_all(listening: socket.socket) -> list[socket.socket]:
    accepted: list[socket.socket] = []
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:  # none is left, or the socket never listened
            return accepted
        connection.setblocking(False)
        accepted.append(connection)
