"""An exclusive lock on a folder, which a process shares with its children.

flock(2) belongs to the open file: processes that inherit the descriptor hold the lock, too, and it
is free when the last of them has ended in any way. So the lock of a server's data folder shows
whether any process of that server is left. A pid file or a process group does not show that: a
PostgreSQL backend has its own session, and outlives a killed postmaster for a moment.
"""

import fcntl
import os
import time
from pathlib import Path

_POLL_SECONDS = 0.01


def take_lock(path: Path, *, seconds: float) -> int:
    """Locks the file `path`, and returns its descriptor; close it to release the lock.

    Raises TimeoutError if others hold it for `seconds`, and OSError if the file can't be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + seconds
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{path} is still locked") from None
                time.sleep(_POLL_SECONDS)
            else:
                return descriptor
    except BaseException:
        os.close(descriptor)
        raise
