"""Notifies systemd that this process has started, and that its loops are still running.

If systemd has not started it, as in a container, NOTIFY_SOCKET is not set and nothing is sent.

The protocol is one datagram (sd_notify(3)). No library is better than these lines: `sdnotify` has
had no release since 2017, `systemd-watchdog` watches no loops, and `systemd-python` needs a
compiler and systemd's headers.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final, Self

import structlog

from contract.setting import Environment
from runtime.periodic import repeat
from runtime.stopping import Stopping

# How often to notify within the time that systemd allows.
_TIMES: Final = 4
_SECOND_US: Final = 1_000_000
_SEND_SECONDS: Final = 1.0

Beat = Callable[[], None]
"""A loop calls it at each of its turns."""

log = structlog.get_logger()


class ServiceManager:
    """Notifies systemd until the end of the block.

    A process that hangs sends nothing, and systemd restarts it after the unit's `WatchdogSec`. The
    same happens if only one loop hangs: if its turn takes longer than is possible.
    """

    def __init__(
        self, environment: Environment, steady_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """Reads systemd's environment variables.

        NOTIFY_SOCKET: the address of a datagram socket; `@` stands for the NUL of an abstract one.
        WATCHDOG_USEC: systemd expects a message within this many microseconds.
        """
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environment.get("WATCHDOG_USEC", "")
        self._pause_seconds = (
            int(microseconds) / _SECOND_US / _TIMES if microseconds.isdigit() else None
        )
        self._steady_seconds = steady_seconds
        self._turn_ends: list[float] = []
        self._stopping = Stopping()
        self._notifying: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._address and self._pause_seconds is not None:
            notifying = repeat(self._notify_alive, self._stopping, self._pause_seconds)
            self._notifying = asyncio.create_task(notifying)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        if self._notifying is not None:
            await self._notifying

    def watch(self, longest_turn_seconds: float) -> Beat:
        """Watches one more loop: it hangs if a turn takes longer than this."""
        loop = len(self._turn_ends)
        self._turn_ends.append(self._steady_seconds() + longest_turn_seconds)

        def beat() -> None:
            self._turn_ends[loop] = self._steady_seconds() + longest_turn_seconds

        return beat

    @property
    def all_turn(self) -> bool:
        """Whether no loop hangs."""
        return all(end >= self._steady_seconds() for end in self._turn_ends)

    def started(self) -> None:
        """The process has started: it works, or waits for the servers that it needs."""
        self._notify("READY=1")

    async def _notify_alive(self) -> None:
        if self.all_turn:
            self._notify("WATCHDOG=1")

    def _notify(self, what: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifying:
            notifying.settimeout(_SEND_SECONDS)
            try:
                notifying.sendto(what.encode(), self._address)
            except OSError as error:
                log.warning(
                    "systemd can't be notified",
                    what=what,
                    why=error.strerror or type(error).__name__,
                    to_do="check that NOTIFY_SOCKET is this service's own",
                )
