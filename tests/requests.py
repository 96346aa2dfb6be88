"""Made-up requests as bytes: usual ones, every unusual framing of HTTP/1.1, and no HTTP at all."""

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

START = "/web_api/v1/sessions"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_AGENTS = [FIREFOX] * 8 + ["curl/8.5.0", "Mozilla/5.0 (compatible; Googlebot/2.1)", ""]


@dataclass(slots=True)
class Sent:
    """One request, or bytes that are none."""

    data: bytes
    traits: set[str] = field(default_factory=set)  # what is odd about it


@dataclass(slots=True)
class Draft:
    """A request that may yet be changed."""

    line: str
    headers: list[tuple[str, str]]  # without a name: a line as it is
    body: bytes
    framed: bytes  # the body as it is sent

    def remove(self, header: str) -> None:
        self.headers = [each for each in self.headers if each[0].title() != header]

    def as_bytes(self) -> bytes:
        lines = [f"{name}: {value}" if name else value for name, value in self.headers]
        head = "\r\n".join([self.line, *lines]).encode("utf-8", "surrogateescape")
        return head + b"\r\n\r\n" + self.framed


class Requests:
    """Makes requests of one site; the same ones for the same seed."""

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
        """A request; `odd`: with one or two things that no beacon does."""
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
        if body or chosen.random() < 0.5:
            headers.append(("Content-Length", str(len(body))))
        draft = Draft(line, headers, body, body)
        if odd:
            oddities = chosen.sample(list(_ODDITIES), chosen.choice((1, 1, 2)))
            if not _ALONE.isdisjoint(oddities):
                oddities = oddities[:1]
            for name in oddities:
                _ODDITIES[name](draft, chosen)
                traits.add(name)
        data = draft.as_bytes()
        if "bare line feeds" in traits:
            data = data.replace(b"\r\n", b"\n", 2)
        return Sent(data, traits)

    def garbage(self) -> Sent:
        """Bytes that are no request of HTTP/1.1."""
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
            b"POST  /web_api/v1/sessions HTTP/1.1\r\nHost: a\r\n\r\n",
            *(
                b"POST /web_api/v1/sessions HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % line
                for line in (
                    b"X Y: b",
                    b"X : b",
                    b"X\xe9: b",
                    b"X(Y): b",
                    b"X\0: b",
                    b"Xy",
                    b"X: a\rb",
                )
            ),
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


Change = Callable[[Draft, random.Random], None]


def _add(*headers: tuple[str, str]) -> Change:
    return lambda draft, _: draft.headers.extend(headers)


def _length(*values: str) -> Change:
    """A Content-Length, or several; `{}` stands for the true one."""

    def change(draft: Draft, _: random.Random) -> None:
        draft.remove("Content-Length")
        for value in values:
            draft.headers.append(("Content-Length", value.format(len(draft.body))))

    return change


def _old(draft: Draft, _: random.Random) -> None:
    draft.line = draft.line.replace("1.1", "1.0")


def _no_host(draft: Draft, _: random.Random) -> None:
    draft.remove("Host")


def _lower(draft: Draft, _: random.Random) -> None:
    draft.headers = [(name.lower(), value) for name, value in draft.headers]


def _chunked(draft: Draft, chosen: random.Random) -> None:
    cut = chosen.randrange(len(draft.body) + 1)
    parts = [part for part in (draft.body[:cut], draft.body[cut:]) if part]
    chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in parts)
    draft.remove("Content-Length")
    draft.headers.append(("Transfer-Encoding", "chunked"))
    draft.framed = chunks + b"0\r\n\r\n"


def _bad_chunk(draft: Draft, chosen: random.Random) -> None:
    _chunked(draft, chosen)
    draft.framed = b"5\r\nab\r\nzz\r\n"


def _both_lengths(draft: Draft, chosen: random.Random) -> None:
    _chunked(draft, chosen)
    draft.headers.append(("Content-Length", str(len(draft.body))))


# Not together with another: of two faults either may be reported.
_ALONE = {"too long", "upgrade"}
_ODDITIES: dict[str, Change] = {
    "old": _old,
    "chunked": _chunked,
    "bad chunk": _bad_chunk,
    "expect": _add(("Expect", "100-continue")),
    "close": _add(("Connection", "close")),
    "keep-alive": _add(("Connection", "Keep-Alive")),
    "no host": _no_host,
    "two hosts": _add(("Host", "b.example.org")),
    "two origins": _add(("Origin", "https://elsewhere.example.net")),
    "two of another": _add(("Accept", "text/html"), ("Cookie", "a=b"), ("cookie", "c=d")),
    "lower case": _lower,
    "folded": _add(("X-Folded", "a"), ("", " b")),
    "white space": _add(("X-Space", "  a \t")),
    "empty": _add(("X-Empty", ""), ("Referer", "")),
    "not ASCII": _add(("X-Text", "é\udcff")),
    "a NUL": _add(("X-Text", "a\0b")),
    "upgrade": _add(("Upgrade", "websocket"), ("Connection", "Upgrade")),
    "trailers": _add(("TE", "trailers")),
    "coding": _add(("Content-Encoding", "gzip")),
    "no coding": _add(("Content-Encoding", "identity")),
    "content type": _add(("Content-Type", "image/png")),
    "two lengths": _length("{}", "1"),
    "both lengths": _both_lengths,
    "a sign": _length("+{}"),
    "a list": _length("{0}, {0}"),
    "zeros": _length("000{}"),
    "huge": _length("99999999999999999999"),
    "many": _add(*((f"X-{number}", "a") for number in range(300))),
    "long": _add(("Cookie", "a" * 9000)),
    "too long": _add(("Cookie", "a" * 17_000)),
    "bare line feeds": _add(),
}
