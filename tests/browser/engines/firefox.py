"""Firefox, in WebDriver BiDi."""

import json
from contextlib import AsyncExitStack

from tests.browser.engines.engine import ScriptError, SocketEngine, Tab

_SETTINGS = {
    "dom.ipc.processPrelaunch.enabled": False,  # no process without a page
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}


class Firefox(SocketEngine):
    """Its options are settings that are to be true."""

    name = "Firefox"
    needs = ("firefox-esr",)
    packages = "firefox-esr"
    private = "browser.privatebrowsing.autostart"
    content = "-isForBrowser"

    async def start(self, stack: AsyncExitStack) -> None:
        settings = _SETTINGS | dict.fromkeys(self.options, True)
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in settings.items()]
        (self.folder / "user.js").write_text("".join(lines))
        address = await self.launch(
            "firefox-esr",
            "--headless",
            "--no-remote",
            "--profile",
            str(self.folder),
            "--remote-debugging-port",
            "0",
            says=r"ws://\S+",
            MOZ_CRASHREPORTER_DISABLE="1",
        )
        await self.connect(stack, f"{address}/session")
        session = await self.ask("session.new", capabilities={})
        self.version = str(session["capabilities"]["browserVersion"])

    async def open(self, url: str, *, background: bool = False) -> Tab:
        answer = await self.ask("browsingContext.create", type="tab", background=background)
        name = str(answer["context"])
        await self.ask("browsingContext.navigate", context=name, url=url, wait="none")
        return Tab(self, name)

    async def run(self, name: str, text: str) -> str:
        answer = await self.ask(
            "script.evaluate", expression=text, target={"context": name}, awaitPromise=True
        )
        if answer["type"] != "success":
            raise ScriptError(str(answer["exceptionDetails"]))
        return str(answer["result"]["value"])

    async def show(self, name: str) -> None:
        await self.ask("browsingContext.activate", context=name)

    async def hide(self, name: str) -> None:
        assert name
        await self.ask("browsingContext.create", type="tab")

    async def close(self, name: str) -> None:
        await self.ask("browsingContext.close", context=name)
