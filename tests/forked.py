"""Our programs without the half second that Python and their imports take to start.

Each is forked from a process that has imported them: a process of its own, with its own arguments,
environment and output. That `python -m` comes to the same is tested with the commands themselves,
the handbook's and those of `make run`; what it looks like from outside, with the canaries.
"""

import asyncio
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from subprocess import TimeoutExpired
from tempfile import TemporaryDirectory
from typing import Final, Self

from embedded.system import ROOT, Program

MODULES: Final = ("collector", "flusher", "rotation")
_FORKED: Final = (*MODULES, "bench.load", "embedded")
# What a program imports only when it knows its command, and what it compiles.
_LATER: Final = ("embedded.commands", "embedded.run", "tests.prepared")
# What Python and the dynamic linker read only when a program starts; all but this one, by which
# the streams are opened here.
_READ_AT_A_START = ("PYTHON", "LD_", "DYLD_")
_ENCODING: Final = "PYTHONIOENCODING"

_PR_SET_PDEATHSIG: Final = 1

_CONTEXT: Final = get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__, *(f"{module}.__main__" for module in _FORKED), *_LATER])


def can_be_forked(module: str, environment: Mapping[str, str]) -> bool:
    """Whether the process that is forked knows this module, and can be given this environment."""
    others = environment.keys() - {_ENCODING}
    return module in _FORKED and not any(name.startswith(_READ_AT_A_START) for name in others)


async def run_forked(
    module: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[int, str, str]:
    """Runs a command to its end: its exit code, standard output and standard error."""
    return await asyncio.to_thread(
        run_to_its_end, module, arguments, {**os.environ, **environment}, ROOT
    )


def run_to_its_end(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
) -> tuple[int, str, str]:
    """The same, with this environment and no other, in a folder."""
    with TemporaryDirectory(prefix="forked-") as outputs:
        output, errors = Path(outputs) / "output", Path(outputs) / "errors"
        process = ForkedProcess(module, arguments, environment, output, errors, folder)
        return process.wait(), output.read_text(), errors.read_text()


class ForkedProcess:
    """A process that runs a command, used as a `subprocess.Popen`. It does not outlive this one."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        output: Path,
        errors: Path,
        folder: Path = ROOT,
    ) -> None:
        """Both files are appended to, and may be one."""
        self._lock = threading.Lock()  # its end can be read once
        self._process = _CONTEXT.Process(
            target=_become,
            args=(module, arguments, environment, output, errors, folder),
            daemon=True,
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, less than 0 where a signal ended it; None while it runs."""
        with self._lock:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end, at the most so many seconds, else it is a TimeoutExpired."""
        if not connection.wait([self._process.sentinel], timeout):
            raise TimeoutExpired("a forked process", timeout or 0.0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkedProgram(Program):
    """A program that is forked where that can be."""

    def start(self) -> Self:
        if not can_be_forked(self.module, self.environment):
            return super().start()
        self.log_path.touch()  # it is looked at from now on
        environment = {**os.environ, **self.environment}
        self.process = ForkedProcess(
            self.module, self.arguments, environment, self.log_path, self.log_path
        )
        return self


def _become(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    output: Path,
    errors: Path,
    folder: Path,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    # Only now: libfaketime reads the environment in each thread, at any time (tests/days.py).
    threading.Thread(target=_end_with_whoever_asked, daemon=True).start()
    _end_with_the_server_that_forks()
    os.chdir(folder)
    sys.argv = [module, *arguments]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]  # what it restarts with
    for stream, path in ((1, output), (2, errors)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), stream)
    encoding = environment.get(_ENCODING)
    sys.stdout = open(1, "w", closefd=False, encoding=encoding)  # noqa: SIM115 - the process's own, to its end
    sys.stderr = open(2, "w", closefd=False, encoding=encoding, buffering=1)  # noqa: SIM115 - the same
    sys.exit(import_module(f"{module}.__main__").main())


def _end_with_the_server_that_forks() -> None:
    """For when it has restarted in place, which leaves no thread: that server ends last."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_whoever_asked() -> None:
    # Not by the death of the parent, which is the server that forks: it lives for as long as one of
    # those does that it has forked.
    asked = parent_process()
    assert asked is not None
    connection.wait([asked.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
