"""TCP ports: find one, see whether one can be had."""

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

# Below Linux's and macOS's ranges for outgoing connections. A port from bind(0) lies inside that
# range: while the server that had it is down, a client that dials again may be given the very same
# port as its own source and connect to itself, and the restarted server then finds it taken.
_PORTS: Final = range(15_000, 32_000)
_PORTS_OF_A_PROCESS: Final = 200


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on `host:port` now. OSError if `host` is no address of ours.

    An empty `host` means every address.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        # As servers do: connections of an earlier run that linger in TIME_WAIT don't count.
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
    """A port of 127.0.0.1 that nobody listens on now; somebody may before its user does, but no
    other process that asked here.
    """
    for port in islice(_own_ports(), _PORTS_OF_A_PROCESS):
        if is_free("127.0.0.1", port):
            return port
    raise OSError(f"none of this process's {_PORTS_OF_A_PROCESS} ports is free")


@cache
def _own_ports() -> Iterator[int]:
    """This process's ports, over and over.

    Nobody else is given them, to its end: one that is not listened on may have been given a moment
    ago, or its server is being started anew. Whoever finds ADMIN_PORT taken is ready elsewhere, and
    two collectors on one PORT share it.
    """
    beginnings = _PORTS[::_PORTS_OF_A_PROCESS]
    for beginning in random.sample(beginnings, len(beginnings)):
        try:
            take_lock(Path(tempfile.gettempdir(), f"impact-ports-{beginning}"), seconds=0)
        except OSError:  # another process's, or another account's
            continue
        return cycle(range(beginning, beginning + _PORTS_OF_A_PROCESS))
    raise OSError(f"all ports from {_PORTS[0]} to {_PORTS[-1]} are other processes'")
