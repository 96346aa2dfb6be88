"""Where a process's Python spends its time: py-spy looks at its stack from outside."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from bench.speed.benchmark import Series

OTHER: Final = "everything else"
IDLE: Final = "idle"
NOT_ALLOWED: Final = "py-spy may not look at other processes here: its part is left out."
_RATE: Final = 200
# It reads the process's memory map first.
_ATTACH_SECONDS: Final = 1.5
# Below this a line says little.
_LEAST_PERCENT: Final = 2.0


async def start_profiler(pid: int, output: Path) -> asyncio.subprocess.Process | None:
    """py-spy, looking at a process; None where it may not."""
    profiler = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("py-spy")), "record", "--nonblocking"),
        *("--format", "raw", "--rate", str(_RATE)),
        *("--pid", str(pid), "--output", str(output)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    with suppress(TimeoutError):
        await asyncio.wait_for(profiler.wait(), _ATTACH_SECONDS)
        return None  # it ended at once: it may not look
    return profiler


async def stop_profiler(profiler: asyncio.subprocess.Process) -> None:
    """Ends it; what it has seen is then in its output."""
    profiler.send_signal(signal.SIGINT)
    await profiler.wait()


def shares_of_stacks(raw: str, places: Sequence[tuple[str, str]]) -> Counter[str]:
    """Of the samples in which a process was at work, how many hundredths were where.

    Args:
        raw: py-spy's output.
        places: a function's name and what is said of a stack that has it; the first that fits.
    """
    seen: Counter[str] = Counter()
    total = 0
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        total += int(count)
        where = next((what for name, what in places if f";{name} (" in stack), OTHER)
        seen[where] += int(count)
    return Counter({where: round(100 * count / total) for where, count in seen.items()})


def series_of(rounds: list[Counter[str]], quantity: str) -> list[Series]:
    """A series for each line that says something, the greatest first."""
    names = {name for each in rounds for name in each if name != IDLE}
    series = [Series(name, quantity, tuple(each[name] for each in rounds)) for name in names]
    some = [each for each in series if each.median >= _LEAST_PERCENT]
    return sorted(some, key=lambda each: -each.median)
