"""The machine of a measurement: what it is, which core runs what, and what processes use."""

import os
import platform
import re
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types

from contract.calendar import from_us
from runtime.clock import wall_clock

_PACKAGES = ("aiohttp", "uvloop", "hiredis", "redis", "asyncpg", "crawlerdetect", "msgspec")


def describe() -> dict[str, str]:
    """The machine, versions, commit and moment of a measurement."""
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "commit": _commit(),
        "when": from_us(wall_clock()).strftime("%Y-%m-%d %H:%M UTC"),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Processes that are started within run on this core only, with those that they start.

    With None, or where there is no such core or no such call (macOS), on any.
    """
    if not hasattr(os, "sched_setaffinity") or core not in (before := os.sched_getaffinity(0)):
        yield
        return
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(*pids: int) -> float:
    """User and system time of processes and those that they have started, also ended ones."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            try:
                times = each.cpu_times()
            except psutil.Error:
                continue  # it has just ended, and its parent has its time
            total += times.user + times.system
            if each is process:
                total += times.children_user + times.children_system
    return total


def resident_mib(pid: int) -> float:
    """Resident memory of one process."""
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def connections_to(ports: Collection[int], pid: int) -> int:
    """How many connections a process has to servers, by their ports."""
    found = psutil.Process(pid).net_connections("tcp")
    return sum(bool(each.raddr) and each.raddr.port in ports for each in found)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return next(iter(names), platform.processor() or platform.machine())


def _commit() -> str:
    def git(*words: str) -> str:
        command = ["git", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    # The results of other benchmarks of this run are no changes.
    others = ("--untracked-files=no", "--", ":/", ":(exclude,top)bench/results")
    changed = "with changes" if git("status", "--porcelain", *others) else ""
    return f"{git('rev-parse', '--short', 'HEAD') or 'unknown'} {changed}".strip()
