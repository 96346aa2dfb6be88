"""Which path and method leads to what."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from aiohttp import web

from collector.http.answers import Answer, NotAllowed
from contract.errors import Reject

Handler = Callable[[web.BaseRequest, str], Awaitable[Answer | web.StreamResponse]]
"""Takes the request and the text that stood in the place of the path's `{}`, if it has one; a page
may answer as aiohttp's applications do."""


@dataclass(frozen=True, slots=True)
class Route:
    """`path` may have one `{}`, for a text without a slash; `name` is the metrics' label."""

    method: str
    path: str
    name: str
    handle: Handler


def pages_at(path: str, handle: Handler) -> tuple[Route, Route]:
    """The routes of a page that may be looked at."""
    return Route("GET", path, "page", handle), Route("HEAD", path, "page", handle)


class Routes:
    """Finds routes: by one look into a dictionary, where the path has no `{}`."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._around: dict[tuple[str, str], dict[str, Route]] = {}
        for route in routes:
            before, place, after = route.path.partition("{}")
            methods = (
                self._around.setdefault((before, after), {})
                if place
                else self._exact.setdefault(before, {})
            )
            methods[route.method] = route

    def find(self, request: web.BaseRequest) -> tuple[Route, str]:
        """The request's route, and what stood in the place of `{}`.

        Raises:
            Reject: 404, there is nothing at this path; 405, not by this method.
        """
        methods, named = self._exact.get(request.raw_path), ""
        if methods is None:
            # With a query, with escapes, in the absolute form, or with a `{}`.
            methods, named = self._look(request.path)
        if methods is None and request.path.endswith("/"):
            # Some put a slash behind every path.
            methods, named = self._look(request.path[:-1])
        if methods is None:
            raise Reject(404, "unknown_path", "There is nothing at this path.")
        route = methods.get(request.method)
        if route is None:
            raise NotAllowed(tuple(methods))
        return route, named

    def _look(self, path: str) -> tuple[dict[str, Route] | None, str]:
        if methods := self._exact.get(path):
            return methods, ""
        for (before, after), methods in self._around.items():
            named = path[len(before) : len(path) - len(after)]
            if path == before + named + after and named and "/" not in named:
                return methods, named
        return None, ""
