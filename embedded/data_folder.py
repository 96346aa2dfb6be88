"""The folder `make run` keeps everything in: whose turn it is, the demo key, what is running."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from embedded.errors import CannotRun
from embedded.folder_lock import take_lock

_KEY_BYTES = 32


@dataclass(frozen=True)
class RunningSystem:
    """How to reach the system that runs: what another command needs in its environment."""

    redis_url: str
    database_url: str
    jwt_key: str


class DataFolder:
    """Paths and small files below one folder; made when something is first written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.valkey = path / "valkey"
        self.postgres = path / "postgres"
        self._lock = path / "lock"
        self._key = path / "jwt_key"
        self._run = path / "run.json"

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Have the folder to ourselves; CannotRun if another run has it or it can't be written."""
        self._make()
        try:
            descriptor = take_lock(self._lock, seconds=0)
        except TimeoutError:
            raise CannotRun(
                f"{self.path} is in use by a run with pid {self._holder()}: stop that one first, "
                "or name another folder with --data"
            ) from None
        except OSError as error:
            raise self._unusable(error) from error
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(descriptor)

    def demo_key(self) -> str:
        """The key that signs demo tokens, in hexadecimal; made on first need, for our eyes only."""
        self._make()
        try:
            if not self._key.exists():
                self._make_key()
            return self._key.read_text().strip()
        except OSError as error:
            raise self._unusable(error) from error

    @contextmanager
    def announced(self, system: RunningSystem) -> Iterator[None]:
        """Let other commands find `system` for as long as this lasts."""
        self._run.unlink(missing_ok=True)
        # Addresses may carry passwords.
        descriptor = os.open(self._run, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(system), file, indent=2)
        try:
            yield
        finally:
            self._run.unlink(missing_ok=True)

    def running_system(self) -> RunningSystem:
        """What runs now; CannotRun if nothing does."""
        if not self._is_reserved() or not self._run.exists():
            raise CannotRun(f"nothing runs on {self.path}: start it with `make run`")
        try:
            return RunningSystem(**json.loads(self._run.read_text()))
        except OSError as error:
            raise self._unusable(error) from error

    def is_running(self) -> bool:
        """Whether a run has announced itself and still lives."""
        return self._is_reserved() and self._run.exists()

    def _is_reserved(self) -> bool:
        if not self._lock.exists():
            return False
        try:
            os.close(take_lock(self._lock, seconds=0))
        except TimeoutError:
            return True
        except OSError as error:
            raise self._unusable(error) from error
        return False

    def _holder(self) -> str:
        return self._lock.read_text().strip() or "unknown"

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def _make_key(self) -> None:
        draft = self.path / f"jwt_key.{os.getpid()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
        try:
            os.link(draft, self._key)  # whole or not at all, and never over another's
        except FileExistsError:
            pass
        finally:
            draft.unlink()

    def _unusable(self, error: OSError) -> CannotRun:
        return CannotRun(
            f"the data folder {self.path} can't be used ({error}): make it yours, or name another "
            "one with --data"
        )
