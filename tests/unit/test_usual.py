"""collector/http/usual.py: which requests it parses, and what it caches."""

import pickle

import pytest

from collector.http.request import Request, Respond
from collector.http.routes import Route, Routes
from collector.http.usual import UsualRequests
from collector.request.body import MAX_BYTES

PERSONAL = "Kilroy"  # must not be cached


def endpoint(_: Request, __: Respond) -> None:
    """Never called."""


ROUTES = Routes(
    [Route("POST", "/sessions", "start", endpoint), Route("PATCH", "/s/{}/up", "up", endpoint)]
)
HOST = b"Host: a.example.org\r\n"


def head(*lines: bytes, request: bytes = b"POST /sessions HTTP/1.1") -> bytes:
    return request + b"\r\n" + b"".join(lines) + b"\r\n"


def read(*lines: bytes, request: bytes = b"POST /sessions HTTP/1.1") -> dict[str, str] | None:
    """The parsed headers, the same the second time; None: it is not parsed here."""
    requests = UsualRequests(ROUTES)
    first, second = (requests.recognise(head(*lines, request=request)) for _ in range(2))
    assert first == second
    return None if first is None else dict(first[2])


def test_headers_have_their_names_in_lower_case_and_their_values_without_white_space() -> None:
    found = read(HOST, b"USER-AGENT:\t a b \t\r\n", b"Accept:\r\n", b"X-Y: \xff\xc3\xa9:\r\n")
    assert found == {
        "host": "a.example.org",
        "user-agent": "a b",
        "accept": "",
        "x-y": "\udcff\u00e9:",
    }


@pytest.mark.parametrize(
    "line",
    [
        *(b"Host: b\r\n", b"host: a.example.org\r\n", HOST),
        *(b"Accept\r\n", b"Accept : a\r\n", b" Accept: a\r\n", b"\tb\r\n", b": a\r\n"),
        *(b"A b: c\r\n", b"Acc\xe9pt: a\r\n", b"A(b): c\r\n", b"A\0: b\r\n"),
        *(b"X: a\r\n b\r\n", b"X: a\r\n\tb\r\n"),
        *(b"X: %b\r\n" % v for v in (b"a\rb", b"a\nb", b"a\n", b"a\r", b"a\0", b"\x7f")),
        *(b"Accept: a\rb\r\n", b"Accept: a\nHost: b\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n"),
        *(b"Connection: close\r\n", b"Connection: keep-alive, x\r\n", b"Connection:\r\n"),
        *(b"Content-Length: %b\r\n" % n for n in (b"", b"-1", b"+1", b"1 1", b"1,1", b"0x1")),
        *(b"Content-Length: %b\r\n" % n for n in (b"1_1", b"\xd9\xa1", b"0000001")),
        b"Content-Length: %d\r\n" % (MAX_BYTES + 1),
    ],
)
def test_a_request_with_an_unusual_header_line_is_not_parsed_here(line: bytes) -> None:
    assert read(HOST) is not None
    assert read(HOST, line) is None
    assert read(HOST, b"Accept: a\r\n", line, b"Origin: https://a\r\n") is None


@pytest.mark.parametrize(
    "request_line",
    [
        *(b"GET /sessions HTTP/1.1", b"POST /sessions HTTP/1.0", b"POST  /sessions HTTP/1.1"),
        *(b"POST /sessions HTTP/1.1 ", b" POST /sessions HTTP/1.1", b"post /sessions HTTP/1.1"),
        *(b"POST /other HTTP/1.1", b"POST /sessions?a HTTP/1.1", b"POST /sessions HTTP/1.1\n", b""),
    ],
)
def test_a_request_line_that_differs_from_an_endpoints_is_not_parsed_here(
    request_line: bytes,
) -> None:
    assert read(HOST, request=request_line) is None


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
