"""collector/http/routes.py: which endpoint a method and a path have."""

import pytest

from collector.http.answers import NotAllowed
from collector.http.routes import Request, Respond, Route, Routes
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


def find(method: str, path: str) -> tuple[str, str] | int:
    """The endpoint's name and what the path names, or the status of the refusal."""
    try:
        route, named = ROUTES.find(method, path)
    except Reject as reject:
        return reject.status
    return route.name, named


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("POST", "/sessions", ("start", "")),
        ("POST", "/sessions/", ("start", "")),
        ("PATCH", "/sessions/a b/upgrade", ("upgrade", "a b")),
        ("PATCH", "/sessions/a/upgrade/", ("upgrade", "a")),
        *(("POST", path, 404) for path in ("/", "//", "/sessions//", "/Sessions", "//sessions")),
        *(("POST", f"/sessions/{rest}", 404) for rest in ("upgrade", "/upgrade", "a/b/upgrade")),
        ("POST", "/sessions/a/upgrade//", 404),
        ("PATCH", "/sessions", 405),
    ],
)
def test_a_path_has_its_endpoint_or_is_refused(
    method: str, path: str, found: tuple[str, str] | int
) -> None:
    assert find(method, path) == found


def test_a_refused_method_is_answered_with_the_allowed_ones() -> None:
    with pytest.raises(NotAllowed) as caught:
        ROUTES.find("PATCH", "/sessions")
    assert set(caught.value.methods) == {"POST", "OPTIONS"}
