"""Notifies systemd that this process has started, and that its loops are still running.

If systemd has not started it, as in a container, NOTIFY_SOCKET is not set and nothing is sent.

The protocol is one datagram. sd_notify(3) has an implementation of this length, and says that
programs may have their own. Libraries: `sdnotify` has had no release since 2017,
`systemd-watchdog` also leaves the loops and the pace to the caller, and `systemd-python` needs a
compiler and systemd's headers.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import structlog

from contract.setting import Environment
from runtime.periodic import repeat
from runtime.stopping import Stopping

# Of the time in which systemd expects a sign of life, the part after which it gets one.
_PART: Final = 4
_SECOND_US: Final = 1_000_000
_SEND_SECONDS: Final = 1.0

Beat = Callable[[], None]
"""To be called by a loop at each of its turns."""

log = structlog.get_logger()


class ServiceManager:
    """Notifies systemd until the end of the block.

    A frozen process sends nothing, and systemd restarts it after the unit's `WatchdogSec`. If one
    loop hangs, which means that a turn takes longer than is possible, it also stops sending.
    """

    def __init__(
        self, environment: Environment, steady_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """Reads where and how often to notify from systemd's environment variables.

        NOTIFY_SOCKET: the address of a datagram socket; `@` stands for an abstract one's NUL.
        WATCHDOG_USEC: systemd expects a sign of life within this many microseconds.
        """
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environment.get("WATCHDOG_USEC", "")
        self._pause_seconds = (
            int(microseconds) / _SECOND_US / _PART if microseconds.isdigit() else None
        )
        self._steady_seconds = steady_seconds
        self._turn_ends: list[float] = []
        self._telling: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._address and self._pause_seconds is not None:
            giving = repeat(self._give_sign, Stopping(), self._pause_seconds)
            self._telling = asyncio.create_task(giving)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._telling is not None:
            self._telling.cancel()
            with suppress(asyncio.CancelledError):
                await self._telling

    def watch(self, longest_turn_seconds: float) -> Beat:
        """Watches one more loop; if a turn takes longer than this, the loop hangs."""
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
        self._tell("READY=1")

    async def _give_sign(self) -> None:
        if self.all_turn:
            self._tell("WATCHDOG=1")

    def _tell(self, what: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
            telling.settimeout(_SEND_SECONDS)
            try:
                telling.sendto(what.encode(), self._address)
            except OSError as error:
                log.warning(
                    "systemd can't be notified",
                    what=what,
                    why=error.strerror or type(error).__name__,
                    to_do="see that NOTIFY_SOCKET is this service's own",
                )
