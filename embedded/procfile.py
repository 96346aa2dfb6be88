"""Runs rows of the Procfile side by side until one of them ends.

honcho reads the file, starts commands and prints lines. Its own manager is not used, because it
kills processes five seconds after it asks them to stop. Ours drain for longer.
"""

import math
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from types import FrameType
from typing import Any, Final

from honcho.colour import get_colours
from honcho.environ import parse_procfile
from honcho.printer import Message, Printer
from honcho.process import Popen

from contract.calendar import from_us
from embedded.errors import CannotRun
from embedded.terminal import Terminal
from runtime.clock import wall_clock

_DRAIN_SECONDS: Final = 40  # our processes drain for up to 25 s
_POLL_SECONDS: Final = 0.1
_SYSTEM: Final = "system"  # the name of our own lines
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Ended:
    """A process that ended. `status` is as in subprocess."""

    name: str
    status: int


@dataclass(frozen=True)
class _Started:
    name: str
    pid: int


@dataclass(frozen=True)
class _Line:
    name: str
    text: bytes


_Event = _Started | _Line | Ended


def read_procfile(path: Path) -> dict[str, str]:
    """The commands by name, in order. CannotRun if there is no file."""
    try:
        return dict(parse_procfile(path.read_text()).processes)
    except OSError as error:
        raise CannotRun(f"no Procfile here ({error}): run this in the project's folder") from error


def run_rows(
    rows: Mapping[str, str],
    environments: Mapping[str, Mapping[str, str]],
    terminal: Terminal,
    *,
    when_started: Callable[[], None],
) -> Ended | None:
    """Runs `rows` until one ends, then stops the others. None: a signal ended them.

    `environments` has one for each row. `when_started` is called when all have been started.
    """
    running = _Rows(terminal, list(rows))
    for number in _STOP_SIGNALS:
        signal.signal(number, running.note_signal)
    events = running.events
    processes = [
        multiprocessing.Process(target=_run, args=(name, command, environments[name], events))
        for name, command in rows.items()
    ]
    for process in processes:
        process.start()
    when_started()
    first = running.until_all_ended()
    for process in processes:
        process.join()
    return first


class _Rows:
    """The processes of the rows. It prints their lines, and stops them."""

    def __init__(self, terminal: Terminal, names: list[str]) -> None:
        self.events: Queue[_Event] = multiprocessing.Queue()
        self._names = names
        self._colours: dict[str, str] = dict(zip(names, get_colours(), strict=False))
        self._printer = Printer(terminal, width=max(map(len, [*names, _SYSTEM])))
        self._pids: dict[str, int] = {}
        self._ended: dict[str, int] = {}  # each with its status
        self._signals: list[int] = []
        self._printed_signals = 0
        self._first: Ended | None = None
        self._kill_at: float | None = None

    def note_signal(self, number: int, _: FrameType | None) -> None:
        """Handles a signal. It can come at any moment, so it is only noted."""
        self._signals.append(number)

    def until_all_ended(self) -> Ended | None:
        """Prints what they write, and stops all when one has ended or a signal came.

        Returns the one that ended first, or None if a signal came before that. None also if its
        status was 0 and a signal came later.
        """
        while len(self._ended) < len(self._names):
            with suppress(queue.Empty):
                self._take(self.events.get(timeout=_POLL_SECONDS))
            for number in self._signals[self._printed_signals :]:
                self._say(f"{signal.Signals(number).name} received")
                self._printed_signals += 1
            if (self._signals or self._ended) and len(self._pids) == len(self._names):
                self._stop()
        good = self._first is not None and self._first.status == 0
        return None if good and self._signals else self._first

    def _take(self, event: _Event) -> None:
        match event:
            case _Line(name, text):
                self._print(name, text, self._colours[name])
            case _Started(name, pid):
                self._pids[name] = pid
                self._say(f"{name} started (pid={pid})")
            case Ended(name, status):
                self._ended[name] = status
                self._say(f"{name} stopped (rc={status})")

    def _stop(self) -> None:
        """Asks all to stop, once, and after the drain kills, once, those that still run."""
        if self._kill_at is None:
            # None has ended if a signal came first.
            self._first = next((Ended(*each) for each in self._ended.items()), None)
            self._kill_at = time.monotonic() + _DRAIN_SECONDS
            self._send(signal.SIGTERM)
        elif time.monotonic() >= self._kill_at:
            self._kill_at = math.inf
            self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        for name, pid in self._pids.items():
            if name not in self._ended:
                self._say(f"sending {number.name} to {name} (pid {pid})")
                _signal_group(pid, number)

    def _say(self, text: str) -> None:
        self._print(_SYSTEM, text, None)

    def _print(self, name: str, text: str | bytes, colour: str | None) -> None:
        now = from_us(wall_clock()).astimezone()
        self._printer.write(Message("line", text, now, name, colour))


def _run(name: str, command: str, environment: Mapping[str, str], events: "Queue[_Event]") -> None:
    """Runs a command in a process of its own, which stops the command if we are killed."""
    # A terminal's Ctrl-C reaches this process, too, but it must outlive its command. Not SIG_IGN,
    # because the command would inherit it.
    for number in _STOP_SIGNALS:
        signal.signal(number, _do_nothing)
    child: Any = Popen(command, env=dict(environment))  # a shell, in a session of its own
    threading.Thread(target=_follow_parent, args=(child.pid, events), daemon=True).start()
    events.put(_Started(name, child.pid))
    for line in child.stdout:
        events.put(_Line(name, line))
    events.put(Ended(name, child.wait()))


def _follow_parent(pid: int, events: "Queue[_Event]") -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        events.cancel_join_thread()  # there is no reader any more
        _signal_group(pid, signal.SIGTERM)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it has ended; on macOS the latter
        os.killpg(pid, number)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass
