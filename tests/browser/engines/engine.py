"""What the engines have in common: their processes, and the tabs that a test opens."""

import asyncio
import itertools
import json
import os
import re
import shutil
from abc import ABC, abstractmethod
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import aiohttp
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest

from tests.system import eventually

# For one answer, on a machine with much to do.
ANSWER_SECONDS = 60.0


class ScriptError(Exception):
    """The page was not there, or what ran in it raised."""


@dataclass(frozen=True)
class Tab:
    """A tab, or a window, and the page that is in it."""

    engine: "Engine"
    name: str  # the engine's

    async def run(self, expression: str) -> Any:
        """What a JavaScript expression, or its promise, comes to in the page.

        Raises:
            ScriptError: it raised, or the page went.
        """
        text = f"(async () => JSON.stringify([await ({expression})]))()"
        (value,) = json.loads(await self.engine.run(self.name, text))
        return value

    async def until(self, expression: str) -> Any:
        """Waits until an expression is true in the page that is there then; what it is."""

        async def look() -> Any:
            try:
                return await self.run(expression)
            except ScriptError:  # between two pages
                return None

        return await eventually(look)

    async def loaded(self) -> None:
        """Waits until the page is there whole. The empty one that a tab begins with is none."""
        await self.until("location.href != 'about:blank' && document.readyState == 'complete'")

    async def go(self, url: str) -> None:
        """To another page, as a link would; returns before it is there."""
        await self.run(f"void setTimeout(() => {{ location.href = {url!r} }})")

    async def back(self) -> None:
        """To the page before; returns before it is there."""
        await self.run("void setTimeout(() => history.back())")

    async def show(self) -> None:
        """To the front."""
        await self.engine.show(self.name)

    async def hide(self) -> None:
        """Behind another tab, or minimised."""
        await self.engine.hide(self.name)

    async def close(self) -> None:
        await self.engine.close(self.name)


class Engine(ABC):
    """A browser with a new profile in a folder of its own, which is its home."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]  # programs
    packages: ClassVar[str]  # of Debian, that have them
    private: ClassVar[str]  # the option for a browser whose windows are all private
    content: ClassVar[str]  # how the command lines of processes that run pages differ

    version = ""

    def __init__(self, folder: Path, options: tuple[str, ...]) -> None:
        self.folder = folder
        self.options = options
        self._processes: list[Process] = []

    @classmethod
    def missing(cls) -> str | None:
        """Why it can't be driven on this machine."""
        lacking = [program for program in cls.needs if shutil.which(program) is None]
        return (
            f"no {', no '.join(lacking)} on the PATH (Debian: apt-get install {cls.packages})"
            if lacking
            else None
        )

    @classmethod
    def require(cls) -> None:
        """Leaves the test out, with the reason, where it can't be driven."""
        if why := cls.missing():
            pytest.skip(why)

    @classmethod
    @asynccontextmanager
    async def run_in(cls, folder: Path, *options: str) -> AsyncIterator[Self]:
        """Runs one; when it has ended, none of its processes is left."""
        cls.require()
        engine = cls(folder, options)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(engine._end)
            await engine.start(stack)
            yield engine

    @abstractmethod
    async def start(self, stack: AsyncExitStack) -> None:
        """Starts it, and connects to it for as long as the stack lasts."""

    @abstractmethod
    async def open(self, url: str, *, background: bool = False) -> Tab:
        """A new tab in front, or behind the one in front; returns before the page is there."""

    @abstractmethod
    async def run(self, name: str, text: str) -> str:
        """What a promise of a text comes to in a tab's page."""

    @abstractmethod
    async def show(self, name: str) -> None: ...

    @abstractmethod
    async def hide(self, name: str) -> None: ...

    @abstractmethod
    async def close(self, name: str) -> None: ...

    async def launch(self, *command: str, says: str = "", **environment: str) -> str:
        """Starts a program without the environment of the user who runs the tests.

        Args:
            command: the program and its arguments.
            says: waits for a line with this expression; what it matched is returned.
            environment: beside its home.
        """
        home = str(self.folder)
        log = self.folder / f"{command[0]}.log"  # a pipe that is not read would stop it one day
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": home,
                    "XDG_RUNTIME_DIR": home,
                    **environment,
                },
                stdout=output,
                stderr=output,
            )
        self._processes.append(process)

        async def said() -> re.Match[str] | None:
            return re.search(says, log.read_text(errors="replace"), re.MULTILINE)

        found = await eventually(said, seconds=ANSWER_SECONDS)
        assert found is not None
        return found[0]

    def pages(self) -> set[psutil.Process]:
        """The processes that run pages."""
        found = set()
        for started in self._processes:
            with suppress(psutil.Error):  # some end meanwhile
                for process in psutil.Process(started.pid).children(recursive=True):
                    if self.content in " ".join(process.cmdline()):
                        found.add(process)
        return found

    async def _end(self) -> None:
        async def left() -> list[psutil.Process]:
            found = self._alive()
            for process in found:
                with suppress(psutil.Error):
                    process.kill()
            return found

        await eventually(left, lambda found: not found)
        for started in self._processes:
            await started.wait()

    def _alive(self) -> list[psutil.Process]:
        """Every process that has the folder as its home."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if (
                    process.environ().get("HOME") == str(self.folder)
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
        return found


class SocketEngine(Engine):
    """An engine that takes all its commands over one WebSocket: a number, a method, its
    parameters.
    """

    def __init__(self, folder: Path, options: tuple[str, ...]) -> None:
        super().__init__(folder, options)
        self._numbers = itertools.count(1)

    async def connect(self, stack: AsyncExitStack, address: str) -> None:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        self._socket = await stack.enter_async_context(http.ws_connect(address, max_msg_size=0))

    async def ask(self, method: str, page: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The answer to a method, of the browser or of a page.

        Raises:
            ScriptError: it is refused.
        """
        message = {"id": next(self._numbers), "method": method, "params": parameters}
        if page is not None:
            message["sessionId"] = page
        await self._socket.send_json(message)
        while True:
            answer = await self._socket.receive_json(timeout=ANSWER_SECONDS)
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise ScriptError(f"{method}: {answer}")
                result: dict[str, Any] = answer["result"]
                return result
