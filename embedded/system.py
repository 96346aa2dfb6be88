"""The whole system as real processes on given servers, for tests and benchmarks."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

import aiohttp
import psutil  # type: ignore[import-untyped]  # it ships no types

from embedded.launch import plan_launch
from embedded.ports import find_free_port

ROOT = Path(__file__).parent.parent
JWT_KEY = "a key of more than thirty-two bytes, for tests"

_START_SECONDS = 60.0  # on a busy machine
_STOP_SECONDS = 60.0
_PATIENCE_SECONDS = 60.0
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.2

T = TypeVar("T")


class Running(Protocol):
    """A process that was started: the part of subprocess.Popen that is used."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, number: int) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


async def eventually(
    look: Callable[[], Awaitable[T]],
    holds: Callable[[T], bool] = bool,
    seconds: float = _PATIENCE_SECONDS,
) -> T:
    """Calls `look` until its result fulfils `holds`; AssertionError with the last result if not."""
    began = time.monotonic()
    while not holds(seen := await look()):
        waited = time.monotonic() - began
        if waited >= seconds:
            raise AssertionError(f"not within {seconds} s: {seen!r}")
        # Frequent calls would slow down what we wait for.
        pause = min(max(waited / 10, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(pause)
    return seen


@dataclass
class Program:
    """One of our processes. It ends when the process that started it ends in any way."""

    module: str
    environment: Mapping[str, str]
    log_path: Path
    arguments: tuple[str, ...] = ()
    process: Running | None = None
    folder: Path = ROOT  # the one with the code

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.environment['ADMIN_PORT']}"

    @property
    def running(self) -> Running:
        if self.process is None:
            raise RuntimeError(f"{self.module} was not started")
        return self.process

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def start(self) -> Self:
        command = [sys.executable, "-m", self.module, *self.arguments]
        launched, _ = plan_launch(
            command, parent_death=signal.SIGKILL, account=None, folder=self.folder
        )
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                launched,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
            )
        return self

    async def ready(self) -> Self:
        """Waits until it and the servers that it needs are ready."""

        async def is_ready() -> bool:
            if self.running.poll() is not None:
                raise AssertionError(f"{self.module} ended:\n{self.log}")
            status, page = await self.readyz()
            well = status == 200 and not {"write", "salt"} & set(page["warnings"])
            with suppress(psutil.NoSuchProcess):
                return well and self._has_its_admin_port()
            return False

        try:
            await eventually(is_ready, bool, _START_SECONDS)
        except AssertionError:
            raise AssertionError(f"{self.module} is not ready:\n{self.log}") from None
        return self

    async def readyz(self) -> tuple[int, dict[str, Any]]:
        """The status and the document of the page `/readyz`; 0 while it starts or restarts."""
        with suppress(aiohttp.ClientError, OSError):
            status, page = await self._page("readyz")
            return status, json.loads(page)
        return 0, {}

    async def _page(self, name: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.admin_url}/{name}") as response,
        ):
            return response.status, await response.text()

    def _has_its_admin_port(self) -> bool:
        """Whether this process answers there, and not another one."""
        sockets = psutil.Process(self.running.pid).net_connections("tcp")
        port = int(self.environment["ADMIN_PORT"])
        return any(s.status == psutil.CONN_LISTEN and s.laddr.port == port for s in sockets)

    async def metrics(self) -> dict[str, float]:
        """Every sample by its name and labels. Waits for a process that restarts in place.

        Raises:
            aiohttp.ClientError: it has ended.
        """

        async def page() -> str:
            try:
                return (await self._page("metrics"))[1]
            except aiohttp.ClientConnectionError:
                if self.running.poll() is not None:
                    raise
                return ""

        text = await eventually(page)
        samples = (line.rpartition(" ") for line in text.splitlines() if line[0] != "#")
        return {name: float(value) for name, _, value in samples}

    async def stop(self) -> int:
        """Asks it to stop; returns its exit code."""
        self.running.send_signal(signal.SIGTERM)
        return await self.exit_code()

    async def exit_code(self) -> int:
        return await asyncio.to_thread(self.running.wait, _STOP_SECONDS)

    def kill(self) -> None:
        """Kills it, and waits for its end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """Suspends it: its connections stay open, and nothing answers."""
        self.running.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it continue."""
        self.running.send_signal(signal.SIGCONT)


@dataclass
class System:
    """A collector, its port, any number of flushers and rotation, on given servers."""

    redis_url: str
    database_url: str
    folder: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    programs: list[Program] = field(default_factory=list)
    port: int = field(default_factory=find_free_port)
    program_type: ClassVar[type[Program]] = Program

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "REDIS_URL": self.redis_url,
            "DATABASE_URL": self.database_url,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "JWT_KEY": JWT_KEY,
            "TRUSTED_PROXIES": "127.0.0.1",
            "FLUSH_MAX_SECONDS": "0.1",
            "LOG_LEVEL": "debug",
            **self.extra,
        }

    def program(self, module: str, **environment: str) -> Program:
        """A process that is not started yet."""
        program = self.program_type(
            module,
            {**self.environment, "ADMIN_PORT": str(find_free_port()), **environment},
            self.folder / f"{module}-{len(self.programs)}.log",
        )
        self.programs.append(program)
        return program

    async def start(self, *modules: str) -> list[Program]:
        """Starts processes and waits until all are ready."""
        programs = [self.program(module).start() for module in modules]
        await asyncio.gather(*(program.ready() for program in programs))
        return programs

    @property
    def logs(self) -> str:
        return "\n".join(program.log for program in self.programs)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for program in self.programs:
                stack.callback(program.kill)


async def run_command(module: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Runs a command; returns its exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return await process.wait(), output.decode(), errors.decode()
