"""collector/http/usual.py: which requests it parses, and what it caches."""

import pickle

from collector.http.routes import Request, Respond, Route, Routes
from collector.http.usual import UsualRequests

PERSONAL = "Kilroy"  # must not be cached


def endpoint(_: Request, __: Respond) -> None:
    """Never called."""


ROUTES = Routes(
    [Route("POST", "/sessions", "start", endpoint), Route("PATCH", "/s/{}/up", "up", endpoint)]
)
HOST = b"Host: a.example.org\r\n"


def head(*lines: bytes, request: bytes = b"POST /sessions HTTP/1.1") -> bytes:
    return request + b"\r\n" + b"".join(lines) + b"\r\n"


def test_nothing_of_a_person_is_remembered() -> None:
    requests = UsualRequests(ROUTES)
    names = (
        *("User-Agent", "X-Forwarded-For", "Forwarded", "Authorization", "Cookie", "Referer"),
        *("Accept-Language", "X-Real-IP", "CF-Connecting-IP", "From", "Sec-CH-UA", "X-Any"),
    )
    recurring = b"Accept: text/plain\r\n"
    for name in names:
        assert requests.recognise(head(HOST, recurring, f"{name}: {PERSONAL}\r\n".encode()))
    kept = pickle.dumps(vars(requests)["_fields"])
    assert b"text/plain" in kept
    assert PERSONAL.encode() not in kept


def test_cached_headers_are_bounded() -> None:
    requests = UsualRequests(ROUTES)
    for number in range(5000):
        found = requests.recognise(head(HOST, b"Origin: https://%d.example.org\r\n" % number))
        assert found is not None
        assert found[2]["origin"] == f"https://{number}.example.org"
    for number in range(100):
        long = b"Accept: %b%d\r\n" % (b"a" * 10_000, number)
        assert requests.recognise(head(HOST, long)) is not None
    assert len(pickle.dumps(vars(requests)["_fields"])) < 1024 * 256
