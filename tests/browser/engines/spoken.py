"""Engines with commands over a WebSocket: a number, a method, its parameters."""

import itertools
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from tests.browser.engines.engine import ANSWER_SECONDS, Engine, ScriptError


class Spoken(Engine):
    """An engine that takes all its commands over one connection."""

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
