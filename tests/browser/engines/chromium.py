"""Chromium, in the Chrome DevTools Protocol."""

import os
from contextlib import AsyncExitStack, suppress

from tests.browser.engines.engine import ScriptError, SocketEngine, Tab
from tests.system import eventually

# Its own says that it is headless, as a robot's does.
_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36"
)


class Chromium(SocketEngine):
    """Attached to a page only while a script runs there: else it would prerender nothing."""

    name = "Chromium"
    needs = ("chromium",)
    packages = "chromium"
    private = "--incognito"
    content = "--type=renderer"

    async def start(self, stack: AsyncExitStack) -> None:
        await self.launch(
            "chromium",
            "--headless=new",
            "--remote-debugging-port=0",
            f"--user-data-dir={self.folder}",
            f"--user-agent={_AGENT}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # root has none
            *self.options,
            "about:blank",
        )
        written = self.folder / "DevToolsActivePort"

        async def address() -> list[str]:
            return written.read_text().split() if written.exists() else []

        port, path = await eventually(address, lambda words: len(words) == 2)
        await self.connect(stack, f"ws://127.0.0.1:{port}{path}")
        version = await self.ask("Browser.getVersion")
        self.version = str(version["product"]).partition("/")[2]

    async def open(self, url: str, *, background: bool = False) -> Tab:
        answer = await self.ask("Target.createTarget", url=url, background=background)
        return Tab(self, str(answer["targetId"]))

    async def run(self, name: str, text: str) -> str:
        attached = await self.ask("Target.attachToTarget", targetId=name, flatten=True)
        page = str(attached["sessionId"])
        answer = await self.ask("Runtime.evaluate", page, expression=text, awaitPromise=True)
        with suppress(ScriptError):  # the page went
            await self.ask("Target.detachFromTarget", sessionId=page)
        if "exceptionDetails" in answer:
            raise ScriptError(str(answer["exceptionDetails"]))
        return str(answer["result"]["value"])

    async def show(self, name: str) -> None:
        await self.ask("Target.activateTarget", targetId=name)

    async def hide(self, name: str) -> None:
        assert name
        await self.open("about:blank")

    async def close(self, name: str) -> None:
        await self.ask("Target.closeTarget", targetId=name)
