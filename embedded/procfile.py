"""Runs rows of the Procfile side by side until one of them ends."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import honcho.manager
from honcho.environ import parse_procfile
from honcho.printer import Printer
from honcho.process import Process

from embedded.errors import CannotRun
from embedded.terminal import Terminal

# Our processes drain for up to 25 s when told to stop; honcho would kill them after 5.
_DRAIN_SECONDS = 40
_ASK_AGAIN_SECONDS = 0.05

honcho.manager.KILL_WAIT = _DRAIN_SECONDS


@dataclass(frozen=True)
class Ended:
    """A process that ended by itself; `status` as subprocess has it."""

    name: str
    status: int


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
    manager = _Manager(terminal, when_started)
    for name, command in rows.items():
        manager.add_process(name, command, env=environments[name])
    manager.loop()
    ended = manager.first_to_end
    if ended is not None and ended.status == 0 and manager.returncode != 0:
        return None  # a signal came just after a good end, and must not be lost
    return ended


class _Manager(honcho.manager.Manager):  # type: ignore[misc]  # honcho has no types
    """honcho's manager, made safe to stop at any moment.

    After `loop`, `first_to_end` is the process whose end was the others' end, None if a signal was.
    """

    def __init__(self, terminal: Terminal, when_started: Callable[[], None]) -> None:
        super().__init__(Printer(terminal))
        self._process_ctor = _FollowingProcess
        self._when_started = when_started
        self.first_to_end: Ended | None = None

    def terminate(self) -> None:
        """Tell all processes to stop; kill those that still run after the drain."""
        if self._terminating:
            return
        if not self._all_started():
            # A signal came before honcho has heard all pids, without which it can't stop them.
            _call_later(_ASK_AGAIN_SECONDS, self.terminate)
            return
        # Before a signal none has ended; honcho calls this itself when one has.
        self.first_to_end = next(
            (
                Ended(name, row["returncode"])
                for name, row in self._processes.items()
                if "returncode" in row
            ),
            None,
        )
        super().terminate()
        # honcho itself waits for a first process to end before it counts the time.
        _call_later(_DRAIN_SECONDS, self.kill)

    def _start(self) -> None:
        # loop() has just installed its handlers for SIGINT and SIGTERM.
        signal.signal(signal.SIGHUP, _treat_as_terminate)
        super()._start()
        self._when_started()


class _FollowingProcess(Process):  # type: ignore[misc]  # honcho has no types
    """Stops its command when the manager has gone without saying so, as by SIGKILL."""

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:  # noqa: FBT001, FBT002 - honcho's
        # Ctrl-C in a terminal reaches this process too, which has to outlive its command.
        # A handler and not SIG_IGN, which the command would inherit.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _do_nothing)
        threading.Thread(target=self._follow_manager, daemon=True).start()
        super().run(events, ignore_signals)

    def _follow_manager(self) -> None:
        manager = multiprocessing.parent_process()
        if manager is None:
            return
        multiprocessing.connection.wait([manager.sentinel])
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGTERM)


def _call_later(seconds: float, action: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, action)
    timer.daemon = True  # nobody waits for it
    timer.start()


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def _treat_as_terminate(_number: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)
