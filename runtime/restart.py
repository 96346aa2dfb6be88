"""Restarts a program in its own process, so that nothing of the old one stays in memory.

Python can't overwrite its values: copies are in buffers of its libraries and in freed memory. A new
program in the same process (execve(2)) gives all memory back to the system, which clears it. The
process id stays the same.
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
    """The result of a program that is to restart in place.

    `listening`: its sockets, on which clients wait for the new program.
    """

    listening: Sequence[socket.socket] = ()

    def begin(self) -> int:
        """Restarts. It returns only if that fails, as when the program was moved: an exit code."""
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
                to_do="see that the service manager starts it again",
            )
            return 1


def listening_before(environment: Environment) -> list[socket.socket]:
    """The listening sockets of the program that ran in this process before, if there was one."""
    sockets = [socket.socket(fileno=int(file)) for file in environment.get(_LISTENING, "").split()]
    for each in sockets:
        each.set_inheritable(False)
    return sockets


class RestartTimer:
    """Decides when a program must restart in place, because it has held a secret that is over."""

    def __init__(self, soonest_seconds: float, latest_seconds: float) -> None:
        """When it does so, after that was over: at random, so that not all programs do at once."""
        self._between = soonest_seconds, latest_seconds
        self._over = asyncio.Event()

    def is_over(self) -> None:
        """What it held is over."""
        self._over.set()

    async def is_due(self, stopping: Stopping) -> bool:
        """Waits until it is time; False: it was asked to stop before that."""
        waits = [asyncio.create_task(stopping.wait()), asyncio.create_task(self._over.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return not await stopping.wait(random.uniform(*self._between))  # noqa: S311 - no secret
