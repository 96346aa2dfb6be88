"""What is left of processes that should have ended."""

import time
from collections.abc import Iterable
from contextlib import suppress

import psutil  # type: ignore[import-untyped]  # it ships no types


def left_of(processes: Iterable[psutil.Process], seconds: float = 60.0) -> list[psutil.Process]:
    """Those that still run after so long. A zombie has ended."""
    left = list(processes)
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        _, listed = psutil.wait_procs(left, timeout=0.1)
        left = [process for process in listed if _runs(process)]
    return left


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False
