"""collector/http/routes.py: which endpoint a method and a path have."""

import pytest

from collector.http.answers import NotAllowed
from collector.http.request import Request, Respond
from collector.http.routes import Route, Routes
from contract.errors import Reject


def nothing(_: Request, __: Respond) -> None:
    """Never called."""


ROUTES = Routes(
    (
        Route("POST", "/sessions", "start", nothing),
        Route("OPTIONS", "/sessions", "preflight", nothing),
        Route("PATCH", "/sessions/{}/upgrade", "upgrade", nothing),
    )
)


def find(method: str, path: str) -> tuple[str, str]:
    route, named = ROUTES.find(method, path)
    return route.name, named


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("POST", "/sessions", ("start", "")),
        ("OPTIONS", "/sessions", ("preflight", "")),
        ("PATCH", "/sessions/current/upgrade", ("upgrade", "current")),
        ("PATCH", "/sessions/a b/upgrade", ("upgrade", "a b")),
        ("POST", "/sessions/", ("start", "")),
        ("PATCH", "/sessions/a/upgrade/", ("upgrade", "a")),
    ],
)
def test_a_path_is_found(method: str, path: str, found: tuple[str, str]) -> None:
    assert find(method, path) == found


@pytest.mark.parametrize(
    "path",
    [
        *("/", "//", "/sessions//", "/Sessions", "//sessions", "/sessions/upgrade"),
        *("/sessions//upgrade", "/sessions/a/b/upgrade", "/sessions/a/upgrade//"),
    ],
)
def test_another_path_is_404(path: str) -> None:
    with pytest.raises(Reject) as caught:
        find("POST", path)
    assert (caught.value.status, caught.value.reason) == (404, "unknown_path")


def test_another_method_is_405_with_the_allowed_ones() -> None:
    for method in ("GET", "HEAD", "PATCH"):
        with pytest.raises(NotAllowed) as caught:
            find(method, "/sessions")
        assert set(caught.value.methods) == {"POST", "OPTIONS"}
