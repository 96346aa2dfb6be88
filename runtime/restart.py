"""Restarts a program in its own process, so that nothing of the old one stays in memory.

Python can't overwrite its values: copies are in buffers of its libraries and in freed memory. If a
new program begins in the same process (execve(2)), the system takes back all memory and clears it.
"""

import asyncio
import os
import random
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from contract.setting import Environment
from runtime.stopping import Stopping

_LISTENING = "IMPACT_LISTENING_FILES"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Restart:
    """The result of a program that must restart in place.

    `listening`: sockets that the new program takes over, so that waiting clients are kept.
    """

    listening: Sequence[socket.socket] = ()

    def begin(self) -> int:
        """Restarts. If that fails, for example because the program was moved: an exit code."""
        for each in self.listening:
            each.set_inheritable(True)
        os.environ[_LISTENING] = " ".join(str(each.fileno()) for each in self.listening)
        try:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell
        except OSError as error:
            log.critical(
                "ended, because it could not restart in place as after each month's end",
                why=error.strerror,
                program=sys.executable,
                to_do="check that the service manager starts it again",
            )
            return 1


def listening_before(environment: Environment) -> list[socket.socket]:
    """The listening sockets of the program that ran in this process before, if any."""
    sockets = [socket.socket(fileno=int(file)) for file in environment.get(_LISTENING, "").split()]
    for each in sockets:
        each.set_inheritable(False)
    return sockets


class RestartTimer:
    """Decides when a program must restart in place, because a secret that it held has expired."""

    def __init__(self, soonest_seconds: float, latest_seconds: float) -> None:
        """The time after `is_over`, chosen at random so that not all processes restart together."""
        self._between = soonest_seconds, latest_seconds
        self._over = asyncio.Event()

    def is_over(self) -> None:
        """The secret has expired."""
        self._over.set()

    async def is_due(self, stopping: Stopping) -> bool:
        """Waits until it is time to restart; False: it was asked to stop before that."""
        waits = [asyncio.create_task(stopping.wait()), asyncio.create_task(self._over.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return not await stopping.wait(random.uniform(*self._between))  # noqa: S311 - no secret
