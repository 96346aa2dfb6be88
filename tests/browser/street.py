"""Between browser and collector: a proxy that serves pages, sees all, and can go wrong."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from aiohttp import web

from embedded.ports import find_free_port
from tests.system import System

Forward = Callable[[], Awaitable[web.StreamResponse]]
# What becomes of one request, which `Forward` would hand to the collector.
Fate = Callable[[web.Request, Forward], Awaitable[web.StreamResponse]]

_HOP_BY_HOP = frozenset(("connection", "keep-alive", "transfer-encoding", "content-encoding"))


@dataclass(frozen=True)
class Request:
    """A request as the browser sent it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any  # a JSON document, or None

    @property
    def is_start(self) -> bool:
        return self.method == "POST" and self.path == "/web_api/v1/sessions"


@dataclass
class Door:
    """One host name of the proxy's: the pages that it has, and what came to its collector."""

    host: str
    pages: dict[str, web.Response] = field(default_factory=dict)
    seen: list[Request] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)  # paths of pages, with what they are for
    fates: deque[Fate] = field(default_factory=deque)  # of the next calls, in their order
    script_fate: Fate | None = None  # of /beacon.js

    def add(self, path: str, text: str, content_type: str = "text/html", **headers: str) -> None:
        """A page or script at a path."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = web.Response(text=text, content_type=content_type, headers=named)

    @property
    def starts(self) -> list[Request]:
        return [request for request in self.seen if request.is_start]


class Street:
    """Every host under localhost, on one port. The collector trusts it as a proxy."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._doors: dict[str, Door] = {}
        self.port = find_free_port()

    def door(self, host: str) -> Door:
        return self._doors.setdefault(host, Door(host))

    def url(self, host: str) -> str:
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(auto_decompress=False)
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen()
        return self

    async def _listen(self) -> None:
        self._listener = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await self._listener.start()

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Meanwhile new connections are refused, and open ones are cut."""
        await self._listener.stop()
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            connection.force_close()
        yield
        await self._listen()

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._http.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        door = self.door(request.host.partition(":")[0])
        page = door.pages.get(request.path)
        if page is not None:
            door.opened.append(f"{request.path} {request.headers.get('Sec-Purpose', '')}".strip())
            return web.Response(text=page.text, headers=page.headers)
        if request.path == "/favicon.ico":  # some engines request it; it has no fate
            return web.Response(status=404)
        raw = await request.read()
        if request.path.startswith("/web_api/"):
            body = json.loads(raw) if raw else None
            door.seen.append(Request(request.method, request.path, dict(request.headers), body))
        fate: Fate | None = None
        if request.path == "/beacon.js":
            fate = door.script_fate
        elif request.method != "OPTIONS" and door.fates:
            fate = door.fates.popleft()
        if fate is None:
            return await self._forward(request, raw)
        return await fate(request, lambda: self._forward(request, raw))

    async def _forward(self, request: web.Request, raw: bytes) -> web.StreamResponse:
        headers = request.headers.copy()
        headers["X-Forwarded-For"] = "192.0.2.1"
        async with self._http.request(
            request.method, self._system.url + request.path_qs, headers=headers, data=raw
        ) as answer:
            kept = [(k, v) for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP]
            body = await answer.read()
            response = web.Response(status=answer.status, body=body)
            response.headers.clear()
            response.headers.extend(kept)
            if "Content-Encoding" in answer.headers:
                response.headers["Content-Encoding"] = answer.headers["Content-Encoding"]
            return response


async def lose_answer(request: web.Request, forward: Forward) -> web.StreamResponse:
    """A fate: the connection breaks once the collector has it."""
    await forward()
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def answer_503(_: web.Request, __: Forward) -> web.StreamResponse:
    """A fate: the collector can't take it just now, and asks for two seconds."""
    return web.Response(
        status=503,
        headers={
            "Retry-After": "2",
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Expose-Headers": "Retry-After",
        },
    )


def hold(until: asyncio.Event) -> Fate:
    """A fate: nothing happens until then."""

    async def fate(_: web.Request, forward: Forward) -> web.StreamResponse:
        await until.wait()
        return await forward()

    return fate
