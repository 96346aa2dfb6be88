"""Chromium without anybody attached to its pages.

Playwright's pages are always visible, and with developer tools attached no page is prerendered.
This browser is only told which tab to open, to bring to the front and to close.
"""

import asyncio
import itertools
import os
import signal
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.system import eventually


class BareChromium:
    """Tabs by their target ids (Chrome DevTools Protocol, domain Target)."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def open(self, url: str, *, background: bool = False) -> str:
        """A new tab."""
        answer = await self._ask("Target.createTarget", url=url, background=background)
        return str(answer["targetId"])

    async def bring_to_front(self, tab: str) -> None:
        await self._ask("Target.activateTarget", targetId=tab)

    async def close(self, tab: str) -> None:
        await self._ask("Target.closeTarget", targetId=tab)

    async def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=10)
            if message.get("id") == number:
                result: dict[str, Any] = message["result"]
                return result


@asynccontextmanager
async def run_bare_chromium(
    program: str, folder: Path, *options: str
) -> AsyncIterator[BareChromium]:
    """Runs a browser with a profile of its own in `folder`."""
    process = await asyncio.create_subprocess_exec(
        program,
        "--headless=new",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        *options,
        "about:blank",
        stdout=DEVNULL,
        stderr=DEVNULL,
        start_new_session=True,  # with all of its own processes, to end them together
    )
    try:
        written = folder / "DevToolsActivePort"

        async def address() -> list[str]:
            return written.read_text().split() if written.exists() else []

        port, path = await eventually(address, lambda words: len(words) == 2)
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"ws://127.0.0.1:{port}{path}") as socket,
        ):
            yield BareChromium(socket)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
