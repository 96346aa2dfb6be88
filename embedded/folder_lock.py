"""An exclusive lock on a folder that children keep held for as long as they live.

flock(2) belongs to the open file, not to the process: a process that inherits the descriptor holds
the lock too, and it is free once the last of them has gone, however each of them ended. So the lock
of a server's data folder says exactly whether any process of that server is left. Neither a pid
file nor a process group says that (each PostgreSQL backend makes a session of its own, and outlives
a killed postmaster for a moment).
"""

import fcntl
import os
import time
from pathlib import Path

_POLL_SECONDS = 0.01


def take_lock(path: Path, *, seconds: float) -> int:
    """Lock the file `path`, made if missing, and return its descriptor; closing it lets go.

    Waits up to `seconds` for others to let go, then raises TimeoutError. OSError if the file
    can't be opened.
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
