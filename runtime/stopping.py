"""Stopping on SIGTERM or SIGINT: the first asks, the second forces."""

import asyncio
import os
import signal


class Stopping:
    """Set once the process is asked to stop; whatever loops, looks here."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def install(self) -> None:
        """Listens to the signals on the running loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked)

    def set(self) -> None:
        self._event.set()

    @property
    def asked(self) -> bool:
        return self._event.is_set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Waits until asked to stop, `seconds` at the most; whether it was asked."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        return self.asked

    def _asked(self) -> None:
        if self.asked:
            os._exit(1)  # a second signal: now, with nothing awaited
        self._event.set()
