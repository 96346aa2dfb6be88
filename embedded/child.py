"""Child processes that do not end with the thread that started them."""

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

Child = subprocess.Popen[bytes]


def start_child(start: Callable[[], Child]) -> Child:
    """Starts a child in a thread that lives as long as this process; raises what `start` raises.

    Linux sends the parent-death signal when the *thread* that started the child ends. A server that
    was started by a short-lived thread would end with that thread.
    """
    starting = _starter().submit(start)
    try:
        return starting.result()
    except BaseException:
        # A signal's exception may have come while the child was started. It must not stay.
        if starting.exception() is None:
            starting.result().kill()
        raise


@cache
def _starter() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1)


def ends_within(child: Child, seconds: float) -> bool:
    """Waits for the child's end; False: it did not end within `seconds`."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
