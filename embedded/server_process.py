"""A server that runs as a child process: start, readiness, and every way to end it."""

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import psutil  # type: ignore[import-untyped]  # it ships no types

from embedded.errors import PortTaken, ServerDidNotStart
from embedded.folder_lock import take_lock
from embedded.held_child import HeldChild
from embedded.launch import Account, plan_launch
from embedded.ports import find_free_port

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_GONE_SECONDS = 10.0
_POLL_SECONDS = 0.02
_PORT_ATTEMPTS = 5
_LOG_LINES_SHOWN = 3


class ServerProcess(ABC):
    """One server on 127.0.0.1 with its data in one folder, which only one server can use at a time.

    The port is chosen at the first start when `port` is 0, and kept from then on. `env` is added to
    our own environment for the server only. Output goes to `server.log` in the data folder. The
    server leads its own session, so that a terminal's Ctrl-C doesn't reach it before its clients
    are done.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(
        self, data_dir: Path, *, port: int = 0, env: Mapping[str, str] | None = None
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.log_path = self.data_dir / "server.log"
        self._port = port
        self._chooses_port = port == 0
        self._extra_env = dict(env or {})
        self._child: HeldChild | None = None
        self._log_start = 0

    @abstractmethod
    def _programs(self) -> Sequence[Path]:
        """The binaries needed, so that a missing one is named."""

    @abstractmethod
    def _prepare(self, lock: int) -> None:
        """Bring the data folder into the state in which the server can start.

        `lock` is the folder's lock, to be passed on to the programs it runs.
        """

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The server's command line, for `self.port`."""

    @abstractmethod
    def _account(self) -> Account | None:
        """Who the server runs as; None: as ourselves."""

    @abstractmethod
    def _is_ready(self, pid: int) -> bool:
        """Whether the server that is process `pid`, and not another one on its port, answers."""

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; 0 before the first start if it was to be chosen."""
        return self._port

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._child is not None and self._child.is_running

    @property
    def pid(self) -> int:
        """The process id of the server (of the postmaster, for PostgreSQL); it must be running."""
        return self._running_child().pid

    def start(self) -> Self:
        """Start and wait until it answers; ServerDidNotStart if that doesn't come about."""
        if self.is_running:
            raise RuntimeError(f"{self.name} is already running")
        self._check_programs()
        attempts = _PORT_ATTEMPTS if self._chooses_port else 1
        for attempt in range(1, attempts + 1):
            if self._chooses_port:
                self._port = find_free_port()
            try:
                self._start_once()
            except PortTaken:
                if attempt == attempts:
                    raise
            else:
                self._chooses_port = False
                break
        return self

    def stop(self) -> None:
        """End it cleanly, by force if it takes too long. No process of it is left on return."""
        if self._child is None:
            return
        if self._child.is_running:
            self._signal_all(self._child, signal.SIGCONT)  # a frozen process heeds no signal
            self._child.send(self.stop_signal)
            if not self._child.wait(_STOP_SECONDS):
                self._kill_processes(self._child)
        self._forget_child()

    def kill(self) -> None:
        """End all of its processes at once with SIGKILL. None is left on return."""
        if self._child is None:
            return
        if self._child.is_running:
            self._kill_processes(self._child)
        self._forget_child()

    def restart(self) -> None:
        """Stop it if it still runs, and start it on the same port and data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Suspend all of its processes: connections stay open and nothing answers."""
        self._signal_all(self._running_child(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let frozen processes go on."""
        self._signal_all(self._running_child(), signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _running_child(self) -> HeldChild:
        if self._child is None or not self._child.is_running:
            raise RuntimeError(f"{self.name} is not running")
        return self._child

    def _environment(self) -> dict[str, str]:
        # PGPORT, PGDATA, PGOPTIONS and their like would steer our server and its client.
        own = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return own | self._extra_env

    def _check_programs(self) -> None:
        for program in self._programs():
            if not os.access(program, os.X_OK):
                raise ServerDidNotStart(
                    f"{self.name} did not start: there is no program {program} that we may run"
                )

    def _start_once(self) -> None:
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
            self._child = HeldChild(lambda: self._spawn(self._command(), lock))
        except OSError as error:
            raise ServerDidNotStart(f"{self.name} did not start: {error}") from error
        finally:
            os.close(lock)  # from here on it is the server that holds it
        try:
            self._await_ready(self._child)
        except BaseException:
            self.kill()
            raise

    def _spawn(self, command: Sequence[str], lock: int) -> subprocess.Popen[bytes]:
        """Start a command of this server, its output appended to the log."""
        launch = plan_launch(
            command,
            parent_death=self.stop_signal,
            account=self._account(),
            folder=self.data_dir,
        )
        account = launch.account
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(
                launch.command,
                stdin=subprocess.DEVNULL,
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

    def _await_ready(self, child: HeldChild) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready(child.pid):
            if child.wait(_POLL_SECONDS):
                raise self._failure(f"it ended with status {child.exit_status}")
            if time.monotonic() >= deadline:
                raise self._failure(f"it did not answer within {_START_SECONDS:.0f} seconds")

    def _failure(self, what: str) -> ServerDidNotStart:
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode("utf-8", "replace")
        if "Address already in use" in text:
            return PortTaken(
                f"{self.name} did not start: port {self._port} of 127.0.0.1 is taken by another "
                f"program; log: {self.log_path}"
            )
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = " / ".join(lines[-_LOG_LINES_SHOWN:]) or "nothing"
        return ServerDidNotStart(
            f"{self.name} did not start: {what}; it said: {said}; log: {self.log_path}"
        )

    def _kill_processes(self, child: HeldChild) -> None:
        # Stopped first, so that it can't start another process between the listing and its end.
        child.send(signal.SIGSTOP)
        self._signal_all(child, signal.SIGKILL)
        child.wait(_GONE_SECONDS)

    def _forget_child(self) -> None:
        """Wait until the last process of the server has let go of the data folder."""
        self._child = None
        os.close(take_lock(self.data_dir / "lock", seconds=_GONE_SECONDS))

    @staticmethod
    def _signal_all(child: HeldChild, number: signal.Signals) -> None:
        try:
            children = psutil.Process(child.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return  # it ended meanwhile
        # The main process first: a stopped one starts no further ones.
        child.send(number)
        for descendant in children:
            with suppress(psutil.NoSuchProcess):
                descendant.send_signal(number)
