"""Finds free TCP ports."""

import errno
import random
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from embedded.folder_lock import take_lock

# Below the ports of outgoing connections on Linux and macOS, where bind(0) would choose one. There,
# while a server is down, a client that connects again may get the server's port as its own, connect
# to itself, and so keep the server from starting.
_PORTS: Final = range(15_000, 32_000)
_PORTS_OF_A_PROCESS: Final = 200


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on `host:port` now. An empty `host` means every address.

    Raises OSError if `host` is not an address of this machine.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        # As servers do, so that connections of an earlier run in TIME_WAIT don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def find_free_port() -> int:
    """A free port of 127.0.0.1, which no other process that calls this function will get."""
    for port in islice(_own_ports(), _PORTS_OF_A_PROCESS):
        if is_free("127.0.0.1", port):
            return port
    raise OSError(f"none of this process's {_PORTS_OF_A_PROCESS} ports is free")


@cache
def _own_ports() -> Iterator[int]:
    """This process's ports, in an endless cycle. A lock reserves them until it ends.

    That a port is free is not enough: its server may be about to start. Two collectors on one PORT
    would share it, and a process that finds ADMIN_PORT taken uses another one.
    """
    beginnings = _PORTS[::_PORTS_OF_A_PROCESS]
    for beginning in random.sample(beginnings, len(beginnings)):
        try:
            take_lock(Path(tempfile.gettempdir(), f"impact-ports-{beginning}"), seconds=0)
        except OSError:  # another process's, or another account's
            continue
        return cycle(range(beginning, beginning + _PORTS_OF_A_PROCESS))
    raise OSError(f"all ports from {_PORTS[0]} to {_PORTS[-1]} are other processes'")
