"""Runs rows of the Procfile side by side until one of them ends.

honcho reads the file, starts commands and prints lines. What it has to run several stops them after
five seconds, where ours drain for longer, and can't be told otherwise; so that is own code here.
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

# Our processes drain for up to 25 s when told to stop.
_DRAIN_SECONDS: Final = 40
_LOOK_SECONDS: Final = 0.1
_US: Final = "system"  # beside the rows' names
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Ended:
    """A process that ended by itself; `status` as subprocess has it."""

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
    """Commands by name, in order. CannotRun if there is no such file."""
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
    """Run `rows` until one ends, and stop the others; None if SIGINT, SIGTERM or SIGHUP did it.

    `environments` has one for each row. `when_started` is called once all have been started.
    """
    running = _Rows(terminal, list(rows))
    for number in _STOP_SIGNALS:
        signal.signal(number, running.asked)
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
    """What is known of the rows' processes, and what is done about it."""

    def __init__(self, terminal: Terminal, names: list[str]) -> None:
        self.events: Queue[_Event] = multiprocessing.Queue()
        self._names = names
        self._colours: dict[str, str] = dict(zip(names, get_colours(), strict=False))
        self._printer = Printer(terminal, width=max(map(len, [*names, _US])))
        self._pids: dict[str, int] = {}
        self._ended: dict[str, int] = {}  # with their status
        self._signals: list[int] = []
        self._said_signals = 0
        self._first: Ended | None = None
        self._kill_at: float | None = None

    def asked(self, number: int, _: FrameType | None) -> None:
        """Handles a signal that asks to stop; at any moment, so that the rest is for later."""
        self._signals.append(number)

    def until_all_ended(self) -> Ended | None:
        """Prints what they write, and stops all when one has ended or a signal came.

        Returns:
            The one whose end was the others'; None if a signal was, also one that came just after
            a good end.
        """
        while len(self._ended) < len(self._names):
            with suppress(queue.Empty):
                self._take(self.events.get(timeout=_LOOK_SECONDS))
            for number in self._signals[self._said_signals :]:
                self._say(f"{signal.Signals(number).name} received")
                self._said_signals += 1
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
        """Tells all to stop, once; kills, once, those that still run after the drain."""
        if self._kill_at is None:
            # Before a signal none has ended.
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
        self._print(_US, text, None)

    def _print(self, name: str, text: str | bytes, colour: str | None) -> None:
        now = from_us(wall_clock()).astimezone()
        self._printer.write(Message("line", text, now, name, colour))


def _run(name: str, command: str, environment: Mapping[str, str], events: "Queue[_Event]") -> None:
    """Runs a command and tells of it: a process of its own, that stops the command when the one
    that asked for it has gone without saying so, as by SIGKILL.
    """
    # Ctrl-C in a terminal reaches this process too, which has to outlive its command.
    # A handler and not SIG_IGN, which the command would inherit.
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
        events.cancel_join_thread()  # nobody reads it any more
        _signal_group(pid, signal.SIGTERM)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it is gone; macOS says so by the latter
        os.killpg(pid, number)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass
