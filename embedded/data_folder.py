"""The folder with all data of `make run`: its lock, and how to reach what runs."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from embedded.errors import CannotRun
from embedded.folder_lock import take_lock


@dataclass(frozen=True)
class RunningSystem:
    """What other commands need to reach the running system. `jwt_key` signs demo tokens; each run
    has a new one.
    """

    redis_url: str
    database_url: str
    jwt_key: str


class DataFolder:
    """The files of one folder, which is made when something is first written.

    Raises CannotRun if the folder can't be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.valkey = path / "valkey"
        self.postgres = path / "postgres"
        self._lock = path / "lock"
        self._run = path / "run.json"

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Locks the folder during the block; CannotRun if another run has it."""
        try:
            with self._usable():
                self.path.mkdir(parents=True, exist_ok=True)
                descriptor = take_lock(self._lock, seconds=0)
        except TimeoutError:
            pid = self._lock.read_text().strip() or "unknown"
            raise CannotRun(
                f"{self.path} is in use by a run with pid {pid}: stop that one first, "
                "or name another folder with --data"
            ) from None
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def announced(self, system: RunningSystem) -> Iterator[None]:
        """Lets other commands find `system` during the block."""
        self._run.unlink(missing_ok=True)
        # Only for the owner, because of the key and of passwords in the URLs.
        descriptor = os.open(self._run, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(system), file, indent=2)
        try:
            yield
        finally:
            self._run.unlink(missing_ok=True)

    def running_system(self) -> RunningSystem:
        """The system that runs now; CannotRun if there is none."""
        with self._usable():
            if not self._is_reserved() or not self._run.exists():
                raise CannotRun(f"nothing runs on {self.path}: start it with `make run`")
            return RunningSystem(**json.loads(self._run.read_text()))

    def _is_reserved(self) -> bool:
        if not self._lock.exists():
            return False
        try:
            os.close(take_lock(self._lock, seconds=0))
        except TimeoutError:
            return True
        return False

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise  # another run has the lock
        except OSError as error:
            raise CannotRun(
                f"the data folder {self.path} can't be used ({error}): make it yours, or name "
                "another one with --data"
            ) from error
