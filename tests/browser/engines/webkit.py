"""WebKitGTK, in WebDriver: its MiniBrowser, on a virtual display."""

import asyncio
import contextlib
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from embedded.ports import find_free_port
from tests.browser.engines.engine import ANSWER_SECONDS, Engine, ScriptError, Tab
from tests.system import eventually

# A promise can be given to a function alone; WebDriver knows none by itself.
_PROMISE = "const done = arguments[0]; {}.then(done, (error) => done('!' + error))"
_SCRIPT_SECONDS = 10.0
_SIZE = {"x": 0, "y": 0, "width": 800, "height": 600}


class WebKit(Engine):
    """Every page has a window of its own: without a window manager a second tab stays hidden."""

    name = "WebKitGTK"
    needs = ("WebKitWebDriver", "Xvfb")
    packages = "webkit2gtk-driver xvfb"
    private = "--private"
    content = "WebKitWebProcess"

    async def start(self, stack: AsyncExitStack) -> None:
        display = await self.launch(
            *("Xvfb", "-displayfd", "1", "-nolisten", "tcp", "-screen", "0", "1024x768x24"),
            says=r"^\d+$",
        )
        port = find_free_port()
        await self.launch(
            "WebKitWebDriver",
            "--host=127.0.0.1",
            f"--port={port}",
            DISPLAY=f":{display}",
            # There is neither a graphics card nor a desktop, and it looks for none.
            WEBKIT_DISABLE_COMPOSITING_MODE="1",
            LIBGL_ALWAYS_SOFTWARE="1",
            DBUS_SESSION_BUS_ADDRESS="disabled:",
            GTK_A11Y="none",
            NO_AT_BRIDGE="1",
        )
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        self._http = await stack.enter_async_context(
            aiohttp.ClientSession(f"http://127.0.0.1:{port}/", timeout=timeout)
        )

        async def answers() -> bool:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                return bool(await self._ask("GET", "status"))
            return False

        await eventually(answers)
        wanted = {
            "pageLoadStrategy": "none",
            "webkitgtk:browserOptions": {"args": ["--automation", *self.options]},
        }
        session = await self._ask("POST", "session", capabilities={"alwaysMatch": wanted})
        self._session = f"session/{session['sessionId']}"
        self.version = str(session["capabilities"]["browserVersion"])
        # A new window is opened from another one, which must be there.
        self._first = str(await self._ask("GET", f"{self._session}/window"))

    async def open(self, url: str, *, background: bool = False) -> Tab:
        window = await self._in(self._first, "window/new", type="window")
        name = str(window["handle"])
        if background:
            await self.hide(name)
        await self._in(name, "url", url=url)
        return Tab(self, name)

    async def run(self, name: str, text: str) -> str:
        script = _PROMISE.format(text)
        try:
            async with asyncio.timeout(_SCRIPT_SECONDS):
                said = str(await self._in(name, "execute/async", script=script, args=[]))
        except TimeoutError:  # WebKit never answers for a page that went to its cache meanwhile
            raise ScriptError("no answer: the page went") from None
        if said.startswith("!"):
            raise ScriptError(said)
        return said

    async def show(self, name: str) -> None:
        await self._in(name, "window/rect", **_SIZE)

    async def hide(self, name: str) -> None:
        await self._in(name, "window/minimize")

    async def close(self, name: str) -> None:
        await self._ask("POST", f"{self._session}/window", handle=name)
        await self._ask("DELETE", f"{self._session}/window")

    async def _in(self, name: str, what: str, **body: Any) -> Any:
        await self._ask("POST", f"{self._session}/window", handle=name)
        return await self._ask("POST", f"{self._session}/{what}", **body)

    async def _ask(self, method: str, path: str, **body: Any) -> Any:
        json = body if method == "POST" else None
        async with self._http.request(method, path, json=json) as answer:
            value = (await answer.json(content_type=None))["value"]
            if answer.status != 200:
                raise ScriptError(f"{path}: {value}")
            return value
