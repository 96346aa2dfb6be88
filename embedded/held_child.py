"""A child process together with the thread that started it."""

import queue
import signal
import subprocess
import threading
from collections.abc import Callable


class HeldChild:
    """Starts a child from a thread of its own, which then waits for the child's end.

    Linux sends the parent-death signal when the *thread* that started the child ends, so a server
    started from a short-lived thread (an executor's, say) would go with it.

    Raises what `start` raises.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._started: queue.SimpleQueue[subprocess.Popen[bytes] | Exception] = queue.SimpleQueue()
        # Not Thread.join: interrupted by a signal's exception, it takes the thread for ended.
        self._ended = threading.Event()
        threading.Thread(target=self._hold, args=(start,), daemon=True).start()
        try:
            outcome = self._started.get()
        except BaseException:
            # A signal's exception must not lose sight of a child that is being born.
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
        except Exception as error:  # noqa: BLE001 - handed to the thread that asked
            self._started.put(error)
            return
        self._started.put(process)
        process.wait()
        self._ended.set()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the child has not ended."""
        return not self._ended.is_set()

    @property
    def exit_status(self) -> int | None:
        """As subprocess: minus the signal's number if one ended it; None while it runs."""
        return self._process.returncode

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the child's end; whether it came."""
        return self._ended.wait(seconds)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the child has ended."""
        self._process.send_signal(number)
