"""A child process, and the thread that started it."""

import queue
import signal
import subprocess
import threading
from collections.abc import Callable


class HeldChild:
    """Starts a child in a new thread, which then waits for the child's end.

    Linux sends the parent-death signal when the *thread* that started the child ends. A server that
    was started by a short-lived thread would end with that thread.

    Raises what `start` raises.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._started: queue.SimpleQueue[subprocess.Popen[bytes] | Exception] = queue.SimpleQueue()
        # Not Thread.join: if a signal's exception interrupts it, it counts the thread as ended.
        self._ended = threading.Event()
        threading.Thread(target=self._hold, args=(start,), daemon=True).start()
        try:
            outcome = self._started.get()
        except BaseException:
            # A signal's exception came while the child was started. It must not stay.
            outcome = self._started.get()
            if not isinstance(outcome, Exception):
                outcome.kill()
            raise
        if isinstance(outcome, Exception):
            raise outcome
        self._process = outcome

    def _hold(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        try:
            process = start()
        except Exception as error:  # noqa: BLE001 - raised in the other thread
            self._started.put(error)
            return
        self._started.put(process)
        process.wait()
        self._ended.set()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return not self._ended.is_set()

    @property
    def exit_status(self) -> int | None:
        """As `Popen.returncode`."""
        return self._process.returncode

    def wait(self, seconds: float) -> bool:
        """Waits for the child's end; False: it did not end within `seconds`."""
        return self._ended.wait(seconds)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, unless the child has ended."""
        self._process.send_signal(number)
