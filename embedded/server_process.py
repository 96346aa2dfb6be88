"""A server as a child process: start, wait until it is ready, stop, kill, freeze."""

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Self

import psutil  # type: ignore[import-untyped]  # it ships no types

from embedded.child import Child, ends_within, start_child
from embedded.errors import ServerDidNotStart
from embedded.folder_lock import take_lock
from embedded.launch import Account, plan_launch
from embedded.ports import find_free_port

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_GONE_SECONDS = 10.0
_POLL_SECONDS = 0.02
_LOG_LINES_SHOWN = 3


class ServerProcess(ABC):
    """A server on 127.0.0.1 with its data in a folder, which only one server can use at a time.

    If `port` is 0, the first start chooses one, which is then kept. `env` is added to the server's
    environment. Output goes to `server.log` in the data folder. The server has its own session, so
    that a terminal's Ctrl-C does not stop it before its clients.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(
        self, data_dir: Path, *, port: int = 0, env: Mapping[str, str] | None = None
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.log_path = self.data_dir / "server.log"
        self._port = port
        self._extra_env = dict(env or {})
        self._child: Child | None = None
        self._log_start = 0

    def _prepare(self, lock: int) -> None:  # noqa: B027 - a server may need nothing
        """Prepares the data folder. The programs that it runs inherit the folder's lock."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The server's command line."""

    def _account(self) -> Account | None:
        """The account of the server; None: ours."""
        return None

    @abstractmethod
    def _is_ready(self, pid: int) -> bool:
        """Whether the server, the process `pid`, accepts connections."""

    @property
    def port(self) -> int:
        """The TCP port; 0 if it is not chosen yet."""
        return self._port

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running server, or of PostgreSQL's postmaster."""
        return self._running_child().pid

    def start(self) -> Self:
        """Starts it and waits until it is ready; else raises ServerDidNotStart."""
        if self.is_running:
            raise RuntimeError(f"{self.name} is already running")
        if self._port == 0:
            self._port = find_free_port()
        self._start()
        return self

    def stop(self) -> None:
        """Ends it cleanly, or kills it if that takes too long. None of its processes is left."""
        if self._child is None:
            return
        if self._child.poll() is None:
            self._signal_all(self._child, signal.SIGCONT)  # a frozen process handles no signal
            self._child.send_signal(self.stop_signal)
            if not ends_within(self._child, _STOP_SECONDS):
                self._kill_processes(self._child)
        self._forget_child()

    def kill(self) -> None:
        """Ends all of its processes with SIGKILL. None is left."""
        if self._child is not None:
            self._kill_processes(self._child)
            self._forget_child()

    def restart(self) -> None:
        """Stops it if it runs, and starts it with the same port and data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Suspends its processes: connections stay open, and nothing answers."""
        self._signal_all(self._running_child(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets frozen processes continue."""
        self._signal_all(self._running_child(), signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _running_child(self) -> Child:
        if self._child is None or not self.is_running:
            raise RuntimeError(f"{self.name} is not running")
        return self._child

    def _environment(self) -> dict[str, str]:
        # PostgreSQL's programs would use PGPORT, PGDATA and so on.
        own = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return own | self._extra_env

    def _said(self) -> str:
        """What the program that was started last has written."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode("utf-8", "replace")

    def _start(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            lock = take_lock(self.data_dir / "lock", seconds=_GONE_SECONDS)
        except TimeoutError:
            raise ServerDidNotStart(
                f"{self.name} did not start: another server uses the data in {self.data_dir}"
            ) from None
        except OSError as error:
            raise ServerDidNotStart(
                f"{self.name} did not start: its data folder can't be used: {error}"
            ) from error
        try:
            self._prepare(lock)
            self._child = start_child(lambda: self._spawn(self._command(), lock))
        except OSError as error:
            raise ServerDidNotStart(f"{self.name} did not start: {error}") from error
        finally:
            os.close(lock)  # from here on only the server holds it
        try:
            self._await_ready(self._child)
        except BaseException:
            self.kill()
            raise

    def _spawn(self, command: Sequence[str], lock: int, stdin: int = subprocess.DEVNULL) -> Child:
        """Starts a command, with its output appended to the log."""
        if not os.access(command[0], os.X_OK):
            raise ServerDidNotStart(
                f"{self.name} did not start: there is no program {command[0]} that we may run"
            )
        launched, account = plan_launch(
            command,
            parent_death=self.stop_signal,
            account=self._account(),
            folder=self.data_dir,
        )
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(
                launched,
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.data_dir,
                env=self._environment(),
                pass_fds=(lock,),
                start_new_session=True,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else [],
            )

    def _await_ready(self, child: Child) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready(child.pid):
            if ends_within(child, _POLL_SECONDS):
                raise self._failure(f"it ended with status {child.returncode}")
            if time.monotonic() >= deadline:
                raise self._failure(f"it did not answer within {_START_SECONDS:.0f} seconds")

    def _failure(self, what: str) -> ServerDidNotStart:
        text = self._said()
        if "Address already in use" in text:
            return ServerDidNotStart(
                f"{self.name} did not start: port {self._port} of 127.0.0.1 is taken by another "
                f"program; log: {self.log_path}"
            )
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = " / ".join(lines[-_LOG_LINES_SHOWN:]) or "nothing"
        return ServerDidNotStart(
            f"{self.name} did not start: {what}; it said: {said}; log: {self.log_path}"
        )

    def _kill_processes(self, child: Child) -> None:
        # Suspended first, so that it starts no process after the others are listed.
        child.send_signal(signal.SIGSTOP)
        self._signal_all(child, signal.SIGKILL)
        ends_within(child, _GONE_SECONDS)

    def _forget_child(self) -> None:
        """Waits until the last process of the server has released the data folder."""
        self._child = None
        os.close(take_lock(self.data_dir / "lock", seconds=_GONE_SECONDS))

    @staticmethod
    def _signal_all(child: Child, number: signal.Signals) -> None:
        if child.poll() is not None:
            return  # its number may be another process's by now
        children = psutil.Process(child.pid).children(recursive=True)
        # The main process first: a suspended one starts no others.
        child.send_signal(number)
        for descendant in children:
            with suppress(psutil.NoSuchProcess):
                descendant.send_signal(number)
