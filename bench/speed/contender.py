"""Servers under load: each on a core of its own, the load and the databases on the other."""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from bench.speed.benchmark import Unsound
from bench.speed.generator import Load
from bench.speed.machine import cpu_seconds, on_core
from embedded.ports import find_free_port
from embedded.system import ROOT, eventually

# What is measured has the first core to itself; what measures it and what it needs, the second.
SERVER_CORE, OTHER_CORE = 0, 1
_TIMES_AS_FAST = 2.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One contender under load, once."""

    load: Load
    cpu_seconds: float  # of the server, for all that it was sent

    @property
    def answered(self) -> int:
        """All answers, with those of the warming up."""
        return sum(self.load.statuses.values())

    @property
    def stored(self) -> int:
        """Answers that promise that something is stored."""
        return self.load.statuses.get("201", 0)

    @property
    def per_cpu_second(self) -> float:
        """Requests a second of the server's processor time: what a neighbour on the machine takes
        away counts less here.
        """
        return self.answered / self.cpu_seconds


class Baseline:
    """`python -m MODULE --port P …` on the server's core. Runs while it is used as a context."""

    def __init__(self, module: str, folder: Path, *arguments: str) -> None:
        self.port = find_free_port()
        self._log = folder / f"{module}.log"
        self._command = [sys.executable, "-m", module, "--port", str(self.port), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("it was not started")
        return self._process.pid

    async def __aenter__(self) -> Self:
        command = self._command
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "KILL", *command]
        with self._log.open("ab") as log, on_core(SERVER_CORE):
            self._process = _start(command, log)
        await eventually(self._listens)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.wait)

    async def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


def _start(command: list[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


async def put_load(
    port: int,
    pid: int,
    seconds: float,
    *,
    rate: float | None = None,
    warm: float = 0.5,
    connections: int = 64,
    core: int = OTHER_CORE,
) -> Turn:
    """Sends beacons for a while.

    Args:
        port: the server's.
        pid: the server's process.
        seconds: how long counts.
        rate: requests a second, in an open loop; None: as many as are answered.
        warm: seconds before.
        connections: how many.
        core: the generator's.

    Raises:
        Unsound: the generator failed, or something was not answered.
    """
    options = {"port": port, "connections": connections, "warm": warm, "seconds": seconds}
    if rate is not None:
        options["rate"] = rate
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    before = cpu_seconds(pid)
    with on_core(core):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.speed.generator",
            *words,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    output, errors = await process.communicate()
    if process.returncode:
        raise Unsound(f"the generator failed: {errors.decode()[-500:]}")
    load = Load(**json.loads(output))
    if load.unanswered:
        raise Unsound(f"{load.unanswered} requests were not answered")
    return Turn(load, cpu_seconds(pid) - before)


async def generators_limit(folder: Path, seconds: float) -> float:
    """Requests a second that the generator makes when the answer costs next to nothing."""
    async with Baseline("bench.speed.baselines.canned", folder) as canned:
        return (await put_load(canned.port, canned.pid, seconds)).load.per_second


def check_generator(limit: float, measured: float) -> str:
    """Says by how much the generator is faster than what it measured.

    Raises:
        Unsound: by too little: what was measured is then the generator.
    """
    times = limit / measured
    if times < _TIMES_AS_FAST:
        raise Unsound(
            f"the generator makes {limit:,.0f} requests/s at the most, which is only {times:.1f} "
            f"times what was measured"
        )
    return (
        f"The generator alone makes {limit:,.0f} requests/s, {times:.1f} times the most that was "
        "measured."
    )
