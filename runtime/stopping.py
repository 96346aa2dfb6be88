"""Stopping on SIGTERM or SIGINT: the first signal asks, the second forces."""

import asyncio
import os
import signal
import threading
from functools import partial
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Whether the process was asked to stop; every loop checks it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._signalled = False
        self._left = False

    def install(self) -> None:
        """Handles the signals for the running loop, including pending ones.

        It uses signal.signal, because a handler of the loop runs a turn later: a signal that comes
        just before `leave_signals` would be lost.
        """
        handle = partial(self._on_signal, asyncio.get_running_loop())
        for number in _SIGNALS:
            signal.signal(number, handle)
            signal.siginterrupt(number, False)  # system calls go on
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def leave_signals(self) -> None:
        """Leaves all signals, including one that has already come, to the next program."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._left = True
        if self._signalled:
            _keep_for_the_next_program()

    def set(self) -> None:
        self._event.set()

    @property
    def asked(self) -> bool:
        return self._event.is_set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Waits until asked to stop, at most `seconds`; returns whether it was asked."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        return self.asked

    def _on_signal(
        self, loop: asyncio.AbstractEventLoop, _number: int, _frame: FrameType | None
    ) -> None:
        if self._left:  # another thread, which does not block signals, has received it
            _keep_for_the_next_program()
            return
        if self._signalled:
            os._exit(1)  # a second signal: end at once
        self._signalled = True
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._event.set)


def _keep_for_the_next_program() -> None:
    """Sends it again: a blocked signal stays pending, also across execve(2)."""
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
