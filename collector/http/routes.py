"""Finds the endpoint or page of a path and method. `server.py` lists them."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from aiohttp import web

from collector.http.answers import Answer, NotAllowed
from collector.request.headers import Headers
from contract.errors import Reject


@dataclass(slots=True)
class Request:
    """A complete request. It is the same from both HTTP parsers."""

    headers: Headers
    peer: str | None  # the address at the other end of the connection
    body: bytes = b""
    named: str = ""  # the text in place of the path's `{}`


Respond = Callable[[Answer | Exception], None]
"""An endpoint calls it once, with the answer or with the error that becomes the answer."""

Endpoint = Callable[[Request, Respond], None]
"""Responds now or later, or raises the error."""

Show = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]
"""Answers a request; the text is the one in place of the path's `{}`, or empty."""


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint. `path` may have one `{}`, for a text without `/`. `name` is a metric's label."""

    method: str
    path: str
    name: str
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Page:
    """The same for a page or a file, answered by aiohttp."""

    method: str
    path: str
    show: Show
    name: str = "page"


def pages_at(path: str, show: Show) -> tuple[Page, Page]:
    return Page("GET", path, show), Page("HEAD", path, show)


class Routes:
    """Finds a request's route."""

    def __init__(self, routes: Iterable[Route | Page]) -> None:
        self._exact: dict[str, dict[str, Route | Page]] = {}
        self._around: dict[tuple[str, str], dict[str, Route | Page]] = {}
        for route in routes:
            before, place, after = route.path.partition("{}")
            methods = (
                self._around.setdefault((before, after), {})
                if place
                else self._exact.setdefault(before, {})
            )
            methods[route.method] = route

    def find(self, method: str, path: str) -> tuple[Route | Page, str]:
        """The request's route, and the text in place of `{}`.

        Args:
            method: in upper case.
            path: without a query, its escapes decoded.

        Raises:
            Reject: 404, unknown path; 405, another method.
        """
        methods, named = self._methods_at(path)
        if methods is None and path.endswith("/"):
            # Some callers add a slash to every path.
            methods, named = self._methods_at(path[:-1])
        if methods is None:
            raise Reject(404, "unknown_path", "There is nothing at this path.")
        route = methods.get(method)
        if route is None:
            raise NotAllowed(tuple(methods))
        return route, named

    def _methods_at(self, path: str) -> tuple[dict[str, Route | Page] | None, str]:
        if methods := self._exact.get(path):
            return methods, ""
        for (before, after), methods in self._around.items():
            named = path[len(before) : len(path) - len(after)]
            if path == before + named + after and named and "/" not in named:
                return methods, named
        return None, ""
