"""Made-up requests as bytes: usual ones, every unusual framing of HTTP/1.1, and what is none."""

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

START = "/web_api/v1/sessions"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_AGENTS = [FIREFOX] * 8 + ["curl/8.5.0", "Mozilla/5.0 (compatible; Googlebot/2.1)", ""]


@dataclass(slots=True)
class Sent:
    """One request, or what pretends to be one."""

    data: bytes
    traits: set[str] = field(default_factory=set)  # what is odd about it


class Requests:
    """Makes requests of one site; the same for one seed."""

    def __init__(self, chosen: random.Random, site: str) -> None:
        self._chosen = chosen
        self._site = site

    def any(self) -> Sent:
        """One of any kind."""
        roll = self._chosen.random()
        if roll < 0.1:
            return self.garbage()
        return self.one(odd=roll < 0.6)

    def usual(self) -> Sent:
        """What a beacon sends."""
        return self.one(odd=False)

    def one(self, *, odd: bool) -> Sent:
        """A request; `odd`: with one or two things that a beacon does not do."""
        chosen = self._chosen
        line, traits = self._line(odd=odd)
        headers = [
            ("Host", "collector.example.org"),
            ("User-Agent", chosen.choice(_AGENTS)),
            ("Origin", f"https://{self._site}"),
            ("Accept", "*/*"),
        ]
        body = self._body(odd=odd)
        if body or chosen.random() < 0.5:
            headers.append(("Content-Type", chosen.choice(["application/json", "text/plain;x=y"])))
        if chosen.random() < 0.3:
            headers.append(("Authorization", "Bearer undefined"))
        framed = self._frame(headers, body)
        if odd:
            odd_ones = chosen.sample(list(_ODDITIES.items()), chosen.choice((1, 1, 2)))
            if not _ALONE.isdisjoint(name for name, _ in odd_ones):
                odd_ones = odd_ones[:1]
            for name, change in odd_ones:
                line, headers, framed = change(self, line, headers, body, framed)
                traits.add(name)
        lines = [line, *(f"{name}: {value}" if name else value for name, value in headers)]
        head = "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n"
        if "bare line feeds" in traits:
            head = head.replace(b"\r\n", b"\n", 2)
        return Sent(head + framed, traits)

    def garbage(self) -> Sent:
        """What is no request of HTTP/1.1."""
        chosen = self._chosen
        some = [
            b"nonsense\r\n\r\n",
            b"post /web_api/v1/sessions HTTP/1.1\r\nHost: a\r\n\r\n",
            # With an end: the next request's line would else be a part of this one.
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chosen.randbytes(40) + b"\r\n\r\n",
            b"GET /beacon.js\r\n\r\n",
            b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"POST /web_api/v1/sessions HTTP/1.1\r\nHost: a\r\n : b\r\n\r\n",
            b"POST /web_api/v1/sessions HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n",
            b"\x00" * 5 + b"\r\n\r\n",
        ]
        return Sent(chosen.choice(some), {"garbage"})

    def _line(self, *, odd: bool) -> tuple[str, set[str]]:
        chosen = self._chosen
        who = chosen.choice(["current", str(uuid.UUID(int=chosen.getrandbits(128))), "nobody"])
        paths = [("POST", START)] * 5
        paths += [("OPTIONS", START), ("PATCH", f"{START}/{who}/upgrade")]
        paths += [("POST", f"{START}/{who}/upgrade"), ("OPTIONS", f"{START}/{who}/upgrade")]
        if odd:
            paths += [("GET", START), ("DELETE", START), ("POST", "/nowhere")]
            paths += [("POST", f"{START}?a=b"), ("POST", "/web_api/v1/%73essions")]
            paths += [("PATCH", f"{START}/a%20b/upgrade"), ("HEAD", START)]
        method, path = chosen.choice(paths)
        return f"{method} {path} HTTP/1.1", {"HEAD"} if method == "HEAD" else set()

    def _body(self, *, odd: bool) -> bytes:
        chosen = self._chosen
        own = f'{{"id":"{uuid.UUID(int=chosen.getrandbits(128))}"}}'.encode()
        bodies = [own] * 6 + [b"", b"{}", b'{"token":"a.b.c"}']
        if odd:
            bodies += [b"[]", b"\xff", b'{"id":1}', b" " * 16_384, b"{}".ljust(16_384)]
            bodies += [b"{}".ljust(16_385), b"{}".ljust(40_000)]
        return chosen.choice(bodies)

    def _frame(self, headers: list[tuple[str, str]], body: bytes) -> bytes:
        if body or self._chosen.random() < 0.5:
            headers.append(("Content-Length", str(len(body))))
        return body


Parts = tuple[str, list[tuple[str, str]], bytes]
Change = Callable[[Requests, str, list[tuple[str, str]], bytes, bytes], Parts]


def _header(*added: tuple[str, str]) -> Change:
    def change(
        _: Requests, line: str, headers: list[tuple[str, str]], __: bytes, framed: bytes
    ) -> Parts:
        return line, [*headers, *added], framed

    return change


def _without(*names: str, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.title() not in names]


def _old(_: Requests, line: str, headers: list[tuple[str, str]], __: bytes, framed: bytes) -> Parts:
    return line.replace("1.1", "1.0"), headers, framed


def _chunked(
    made: Requests, line: str, headers: list[tuple[str, str]], body: bytes, _: bytes
) -> Parts:
    cut = made._chosen.randrange(len(body) + 1)
    parts = [part for part in (body[:cut], body[cut:]) if part]
    chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in parts)
    headers = _without("Content-Length", headers=headers)
    return line, [*headers, ("Transfer-Encoding", "chunked")], chunks + b"0\r\n\r\n"


def _bad_chunk(
    made: Requests, line: str, headers: list[tuple[str, str]], body: bytes, framed: bytes
) -> Parts:
    line, headers, framed = _chunked(made, line, headers, body, framed)
    return line, headers, b"5\r\nab\r\nzz\r\n"


def _no_host(
    _: Requests, line: str, headers: list[tuple[str, str]], __: bytes, framed: bytes
) -> Parts:
    return line, _without("Host", headers=headers), framed


def _lower(
    _: Requests, line: str, headers: list[tuple[str, str]], __: bytes, framed: bytes
) -> Parts:
    return line, [(name.lower(), value) for name, value in headers], framed


def _two_lengths(
    _: Requests, line: str, headers: list[tuple[str, str]], body: bytes, framed: bytes
) -> Parts:
    headers = _without("Content-Length", headers=headers)
    lengths = [("Content-Length", str(len(body))), ("Content-Length", "1")]
    return line, [*headers, *lengths], framed


def _both_lengths(
    made: Requests, line: str, headers: list[tuple[str, str]], body: bytes, framed: bytes
) -> Parts:
    line, headers, framed = _chunked(made, line, headers, body, framed)
    return line, [*headers, ("Content-Length", str(len(body)))], framed


def _length(value: str) -> Change:
    def change(
        _: Requests, line: str, headers: list[tuple[str, str]], body: bytes, framed: bytes
    ) -> Parts:
        headers = _without("Content-Length", headers=headers)
        return line, [*headers, ("Content-Length", value.format(len(body)))], framed

    return change


# Of two faults either may be told.
_ALONE = {"too long", "upgrade"}
_ODDITIES: dict[str, Change] = {
    "old": _old,
    "chunked": _chunked,
    "bad chunk": _bad_chunk,
    "expect": _header(("Expect", "100-continue")),
    "close": _header(("Connection", "close")),
    "keep-alive": _header(("Connection", "Keep-Alive")),
    "no host": _no_host,
    "two hosts": _header(("Host", "b.example.org")),
    "two origins": _header(("Origin", "https://elsewhere.example.net")),
    "two of another": _header(("Accept", "text/html"), ("Cookie", "a=b"), ("cookie", "c=d")),
    "lower case": _lower,
    "folded": _header(("X-Folded", "a"), ("", " b")),
    "white space": _header(("X-Space", "  a \t")),
    "empty": _header(("X-Empty", ""), ("Referer", "")),
    "not ASCII": _header(("X-Text", "é\udcff")),
    "a NUL": _header(("X-Text", "a\0b")),
    "upgrade": _header(("Upgrade", "websocket"), ("Connection", "Upgrade")),
    "trailers": _header(("TE", "trailers")),
    "coding": _header(("Content-Encoding", "gzip")),
    "no coding": _header(("Content-Encoding", "identity")),
    "content type": _header(("Content-Type", "image/png")),
    "two lengths": _two_lengths,
    "both lengths": _both_lengths,
    "a sign": _length("+{}"),
    "a list": _length("{0}, {0}"),
    "zeros": _length("000{}"),
    "huge": _length("99999999999999999999"),
    "many": _header(*((f"X-{number}", "a") for number in range(70))),
    "long": _header(("Cookie", "a" * 9000)),
    "too long": _header(("Cookie", "a" * 17_000)),
    "bare line feeds": _header(),
}
