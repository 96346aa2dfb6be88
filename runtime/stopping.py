"""Stopping on SIGTERM or SIGINT: the first signal asks, the second forces."""

import asyncio
import os
import signal
import threading
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Is set when the process is asked to stop; every loop checks it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._signalled = False

    def install(self) -> None:
        """Handles the signals on the running loop, including pending ones."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def leave_signals(self) -> None:
        """Leaves all signals, also one that has already come, to the next program."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        if self._signalled:
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # it waits

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

    def _on_signal(self) -> None:
        if self._signalled:
            os._exit(1)  # a second signal: now, with nothing awaited
        self._signalled = True
        self._event.set()
