"""TCP ports: find one, see whether one can be had."""

import errno
import random
import socket
from itertools import chain, cycle, islice
from typing import Final

# Below Linux's and macOS's ranges for outgoing connections. A port from bind(0) lies inside that
# range: while the server that had it is down, a client that dials again may be given the very same
# port as its own source and connect to itself, and the restarted server then finds it taken.
_FIRST_PORT = 15_000
_LAST_PORT = 32_000
_TRIES = 100
# One after the other from anywhere: what was given is not given again while its user has yet to
# listen on it, and others who choose at the same time are elsewhere.
_BEGINNING: Final = random.randint(_FIRST_PORT, _LAST_PORT)  # noqa: S311 - no secret
_CANDIDATES: Final = cycle(chain(range(_BEGINNING, _LAST_PORT + 1), range(_FIRST_PORT, _BEGINNING)))


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
    """A port of 127.0.0.1 that nobody listens on now; somebody may before its user does."""
    for port in islice(_CANDIDATES, _TRIES):
        if is_free("127.0.0.1", port):
            return port
    raise OSError(f"no free port found between {_FIRST_PORT} and {_LAST_PORT}")
