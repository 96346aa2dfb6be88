"""Runs rows of the Procfile side by side until one of them ends.

honcho reads the file and prints the lines. Its own manager is not used, because it kills processes
five seconds after it asks them to stop. Ours drain for longer.
"""

import asyncio
import os
import shlex
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from honcho.colour import get_colours
from honcho.environ import parse_procfile
from honcho.printer import Message, Printer

from contract.calendar import from_us
from embedded.errors import CannotRun
from embedded.launch import plan_launch
from runtime.clock import wall_clock

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DRAIN_SECONDS: Final = 40  # our processes drain for up to 25 s
_LONGEST_LINE: Final = 1024 * 1024
_SYSTEM: Final = "system"  # the name of our own lines


@dataclass(frozen=True)
class Ended:
    """A process that ended. `status` is as in subprocess."""

    name: str
    status: int


def read_procfile(path: Path) -> dict[str, str]:
    """The commands by name, in order. CannotRun if there is no file."""
    try:
        return dict(parse_procfile(path.read_text()).processes)
    except OSError as error:
        raise CannotRun(f"no Procfile here ({error}): run this in the project's folder") from error


async def run_rows(
    rows: Mapping[str, str],
    environments: Mapping[str, Mapping[str, str]],
    terminal: "Terminal",
) -> Ended | None:
    """Runs `rows` until one ends or a signal comes, then stops the others.

    `environments` has one for each row.

    Returns the one that ended first, or None if a signal came before that. None also if its status
    was 0 and a signal came later.
    """
    loop = asyncio.get_running_loop()
    lines = _Lines(terminal, rows)
    must_stop = asyncio.Event()
    signals: list[int] = []
    ended: list[Ended] = []

    def note(number: int) -> None:
        lines.say(f"{signal.Signals(number).name} received")
        signals.append(number)
        must_stop.set()

    async def follow(name: str, process: Process) -> None:
        await lines.copy(name, process.stdout)
        ended.append(Ended(name, await process.wait()))
        lines.say(f"{name} stopped (rc={ended[-1].status})")
        must_stop.set()

    before = {
        number: signal.signal(number, lambda number, _: loop.call_soon_threadsafe(note, number))
        for number in STOP_SIGNALS
    }
    try:
        processes = {}
        for name, command in rows.items():
            processes[name] = await _start(command, environments[name])
            lines.say(f"{name} started (pid={processes[name].pid})")
        following = [asyncio.create_task(follow(*each)) for each in processes.items()]
        await must_stop.wait()
        first = ended[0] if ended else None
        for kind in (signal.SIGTERM, signal.SIGKILL):
            for name, process in processes.items():
                if process.returncode is None:
                    lines.say(f"sending {kind.name} to {name} (pid {process.pid})")
                    with suppress(ProcessLookupError, PermissionError):  # it has ended
                        os.killpg(process.pid, kind)
            _, left = await asyncio.wait(following, timeout=_DRAIN_SECONDS)
            if not left:
                break
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return None if signals and first is not None and first.status == 0 else first


async def _start(command: str, environment: Mapping[str, str]) -> Process:
    """Starts a row's command, in a session of its own: a terminal's Ctrl-C reaches only us.

    There is no shell, because it would outlive us if we are killed, or its command would. Variables
    (`$PORT`) are replaced.
    """
    words = shlex.split(Template(command).safe_substitute(environment))
    launched, _ = plan_launch(words, parent_death=signal.SIGTERM, account=None, folder=Path.cwd())
    return await asyncio.create_subprocess_exec(
        *launched,
        env=environment,
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,
        limit=_LONGEST_LINE,
    )


class Terminal:
    """Standard output, which may be closed while we run. Then it writes to nothing.

    The servers must be stopped cleanly even if the terminal is closed, or a reader ends
    (`make run | head`).
    """

    def write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError:
            # Otherwise the rest of the buffer would fail again when the interpreter ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)

    def flush(self) -> None:
        """Does nothing: `write` flushes."""

    def isatty(self) -> bool:
        return sys.stdout.isatty()

    def say(self, line: str) -> None:
        self.write(line + "\n")


class _Lines:
    """Prints the lines of the processes and our own, each with its time and a name."""

    def __init__(self, terminal: Terminal, rows: Mapping[str, str]) -> None:
        self._colours: dict[str, str] = dict(zip(rows, get_colours(), strict=False))
        self._printer = Printer(terminal, width=max(map(len, [*rows, _SYSTEM])))

    async def copy(self, name: str, output: asyncio.StreamReader | None) -> None:
        """Prints what a process writes, until its end."""
        while output is not None and (line := await output.readline()):
            self._print(name, line, self._colours[name])

    def say(self, text: str) -> None:
        self._print(_SYSTEM, text, None)

    def _print(self, name: str, text: str | bytes, colour: str | None) -> None:
        now = from_us(wall_clock()).astimezone()
        self._printer.write(Message("line", text, now, name, colour))
