"""Good requests, refused ones and broken ones, with markers in every field, and who sends them."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple

import aiohttp
import jwt

from tests.adversity.canaries.markers import Canaries
from tests.requests import FIREFOX, START

SITE: Final = "city.example.org"
UPGRADE: Final = f"{START}/current/upgrade"
JSON: Final = "application/json"
_GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
_AT_ONCE = 16
_ANSWER_SECONDS = 3


class Asked(NamedTuple):
    """A request that a client of HTTP can send. A header that is None is left out."""

    headers: dict[str, str | None]
    method: str
    path: str
    body: bytes


def ask(body: bytes = b"", method: str = "POST", path: str = START, **headers: str | None) -> Asked:
    """`Content_Type` is the header Content-Type. All have the usual headers beside their own."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Asked(named, method, path, body)


def usual_headers(c: Canaries, site: str, number: int) -> dict[str, str | None]:
    return {
        "Origin": f"https://{site}",
        "X-Forwarded-For": f"{c('xff')}, {c.ipv6(number)}",
        "User-Agent": f"{FIREFOX} {c('agent')}",
        "Referer": f"https://{site}/{c('referer')}",
        "Cookie": f"{c('cookie')}={c('cookie')}; =bad; {c('bad')}",
        "Forwarded": f'for="[{c.ipv6(1)}]"',
        "X-Real-IP": str(c.ipv4(1)),
        "Via": c("via"),
        "From": c("from"),
        "Accept-Language": c("language"),
        "Traceparent": c("trace"),
        c("header"): c("header"),
    }


def well_formed(c: Canaries) -> list[Asked]:
    """Every kind of request that is HTTP."""
    by_header = (*callers(c), *sites(c), *(ask(X_Forwarded_For=text) for text in addresses(c)))
    return [ask(), *by_header, *bodies(c), *encodings(c), *paths(c)]


def addresses(c: Canaries) -> Iterator[str]:
    yield str(c.ipv6(1))
    yield c.ipv6(2).exploded
    yield f"[{c.ipv6(3)}]:443"
    yield f"{c.ipv6(4)}%{c('zone')}"
    yield f"::ffff:{c.ipv4(0)}"
    yield from (str(c.ipv4(last)) for last in range(6))
    yield f"{c.ipv4(6)}:65000"
    yield f"{c.ipv4(7)}, {c('garbage')}"
    yield c("garbage")


def tokens(c: Canaries) -> Iterator[str]:
    yield c.token()
    yield c.token(exp=1)
    yield c.token(exp=c("exp"))
    yield c.token(aud=c("aud"))
    yield c.token(sub=f"{c('nul')}\0")
    yield c.token(sub=c("long") * 20)
    yield c.token(highest_role=f"{c('role')}\0")
    yield c.token(highest_role=c("role") * 9)
    yield c.signed(b'{"sub":"%s\\ud800"}' % c("surrogate").encode())
    yield c.signed(b'{"sub":"%s"' % c("cut").encode())
    yield c.signed(b'["%s"]' % c("list").encode())
    yield c.signed(b'{"sub":"%s","exp":1e999}' % c("infinite").encode())
    yield c.signed(b'{"sub":"%s"}' % c("forged").encode(), "another key of more than 32 bytes")
    yield jwt.encode({"sub": c("unsigned")}, "", algorithm="none")
    yield f"{c('header')}.{c('payload')}.{c('signature')}"
    yield c("bearer")
    yield "undefined"


def callers(c: Canaries) -> Iterator[Asked]:
    """Who asks: for a session, and by both methods for an upgrade."""
    for value in (*(f"Bearer {token}" for token in tokens(c)), f"Basic {c('basic')}"):
        yield ask(Authorization=value)
        yield ask(path=UPGRADE, method="PATCH", Authorization=value)
        yield ask(path=UPGRADE, Authorization=value)
    yield ask(User_Agent=f"{_GOOGLEBOT} {c('crawler')}")
    yield ask(User_Agent=f"{FIREFOX} {c('long')}" + c("x") * 200)
    yield ask(User_Agent=None)


def sites(c: Canaries) -> Iterator[Asked]:
    yield ask(Origin=f"https://{SITE}/?{c('query')}#{c('fragment')}")
    yield ask(Origin=f"https://{c('user')}:{c('password')}@{SITE}")
    yield ask(Origin=f"https://{c('elsewhere')}.example.net")
    yield ask(Origin=f"https://[{c('bracket')}")
    yield ask(Origin=None, X_Forwarded_Host=f"{c('host')}.example.net")
    yield ask(Origin=None, Host=f"{c('host')}.example.net")


def bodies(c: Canaries) -> Iterator[Asked]:
    with_token = json.dumps({"token": c.token()}).encode()
    unknown = json.dumps({c("key"): c("value"), "address": str(c.ipv6(5))}).encode()
    yield ask(with_token, Content_Type=JSON)
    yield ask(with_token, "PATCH", UPGRADE, Content_Type=JSON)
    yield ask(unknown, Content_Type="text/plain")
    yield ask(b'{"token":["%s"]}' % c("token").encode(), Content_Type=JSON)
    yield ask(b'{"id":"%s"}' % c("id").encode(), Content_Type=JSON)
    yield ask(b'["%s"]' % c("list").encode(), Content_Type=JSON)
    yield ask(b'{"%s"' % c("open").encode(), Content_Type=JSON)
    yield ask(b'{"a":NaN,"b":"%s"}' % c("nan").encode(), Content_Type=JSON)
    yield ask(b'{"a":"\xff%s"}' % c("latin").encode(), Content_Type=JSON)
    yield ask(b"[" * 3000 + c("deep").encode(), Content_Type=JSON)
    yield ask(c("large").encode() * 1200, Content_Type=JSON)
    yield ask(c("form").encode(), Content_Type="application/x-www-form-urlencoded")
    yield ask(c("other").encode(), Content_Type=c("type"))
    yield ask(c("part").encode(), Content_Type=f"multipart/form-data; boundary={c('boundary')}")
    yield ask(b"{}", Content_Type=f"{JSON}; charset={c('charset')}")


def encodings(c: Canaries) -> Iterator[Asked]:
    packed = gzip.compress(b'{"a":"%s"}' % c("gzip").encode())
    bomb = gzip.compress(c("bomb").encode() * 4000)
    yield ask(packed, Content_Type=JSON, Content_Encoding="gzip")
    yield ask(bomb, Content_Type=JSON, Content_Encoding="gzip")
    yield ask(c("not-gzip").encode(), Content_Type=JSON, Content_Encoding="gzip")
    yield ask(c("not-deflate").encode(), Content_Type=JSON, Content_Encoding="deflate")
    yield ask(b"{}", Content_Type=JSON, Content_Encoding=c("encoding"))


def paths(c: Canaries) -> Iterator[Asked]:
    yield ask(path=f"{START}?{c('query')}")
    yield ask(path=f"/{c('path')}")
    yield ask(path=f"{START}/{c('session')}/upgrade", method="PATCH")
    yield ask(path=f"{START}/%00%ff{c('session')}/upgrade", method="PATCH")
    yield ask(path=f"/demo?{c('demo')}", method="GET")
    yield ask(path=UPGRADE, method="DELETE")
    yield ask(method=c.stem.upper())
    yield ask(method="OPTIONS", Access_Control_Request_Method=c("method"))
    yield ask(Expect=c("expect"))
    yield ask(b"{}", Connection="Upgrade", Upgrade=c("upgrade"), Content_Type=JSON)


def whole(c: Canaries) -> tuple[bytes, bytes]:
    """A good request as bytes; its second piece ends it."""
    agent = f"User-Agent: {FIREFOX} {c('raw-agent')}"
    lines = f"POST {START} HTTP/1.1", f"Host: {SITE}", "Connection: close", agent, ""
    return "\r\n".join(lines).encode(), b"Content-Length: 0\r\n\r\n"


def malformed(c: Canaries) -> list[tuple[bytes, ...]]:
    """What is no HTTP, or stops being HTTP after a while; in the pieces in which it is sent."""
    mark, (start, _) = c("raw").encode(), whole(c)
    as_json = start + f"Content-Type: {JSON}\r\n".encode()
    chunked = as_json + b"Transfer-Encoding: chunked\r\n\r\n"
    return [
        (mark + b"\r\n\r\n",),
        (b"GET /" + mark + b" HTTP/9.9\r\n\r\n",),
        (b"GET /" + mark + b"\r\n\r\n",),
        (b"GET /" + mark * 1000 + b" HTTP/1.1\r\n\r\n",),
        (b"P\x00ST /" + mark + b" HTTP/1.1\r\n\r\n",),
        (b"GET http://[" + mark + b" HTTP/1.1\r\nHost: a\r\n\r\n",),
        (b"CONNECT " + mark + b":443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + mark,),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + mark * 8,),
        (start + mark + b"\r\n\r\n",),
        (start + b"X-A: a\x00" + mark + b"\r\n\r\n",),
        (start + b"X A: " + mark + b"\r\n\r\n",),
        (start + b"X-A: " + mark * 1000 + b"\r\n\r\n",),
        (start + b"".join(b"X-%d: %s\r\n" % (n, mark) for n in range(200)) + b"\r\n",),
        (start + b"Origin: https://" + SITE.encode() + b"/\xff\xfe" + mark + b"\r\n\r\n",),
        (start + b"Content-Length: " + mark + b"\r\n\r\n",),
        (start + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + mark,),
        (start + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + mark,),
        (start + b"Transfer-Encoding: " + mark + b"\r\n\r\n",),
        (chunked + b"5\r\n", mark + b"\r\n0\r\n\r\n"),
        (chunked, mark + b"\r\n"),
        (chunked + b"%x\r\n" % len(mark), mark + b"\r\n0\r\n\r\n"),  # HTTP, but not JSON
        (chunked + b"10000000000000000000;" + mark + b"\r\n", mark),
        (as_json + b"Content-Length: 500\r\n\r\n{", mark),
        (as_json + b"Content-Encoding: gzip\r\nContent-Length: 40\r\n\r\n", mark * 4),
    ]


@dataclass
class FrontEnd:
    """Sends them, and keeps the status of each answer."""

    canaries: Canaries
    http: aiohttp.ClientSession
    statuses: list[int] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    async def send(self, port: int, asked: Asked | None = None, site: str = SITE) -> int:
        """The status of the answer."""
        own, method, path, body = asked or ask()
        usual = usual_headers(self.canaries, site, next(self.numbers))
        headers = {name: value for name, value in (usual | own).items() if value is not None}
        url = f"http://127.0.0.1:{port}{path}"
        async with self.http.request(method, url, headers=headers, data=body or None) as answer:
            await answer.read()
            self.statuses.append(answer.status)
            return answer.status

    async def send_bytes(self, port: int, *pieces: bytes, leaves: bool) -> None:
        """From an address that is a marker, too. `leaves`: without waiting for the answer."""
        address = self.canaries.loopback
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        with suppress(OSError):  # a refused connection is closed early
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if not leaves:
                writer.write_eof()
                async with asyncio.timeout(_ANSWER_SECONDS):
                    answer = await reader.read()
                if answer.startswith(b"HTTP/1.1 "):
                    self.statuses.append(int(answer[9:12]))
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def send_everything(self, port: int, site: str = SITE) -> None:
        """Every request there is. None of them ends this service."""
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(asked: Asked) -> None:
            # The client itself refuses to send some, or can't read the answer.
            async with slots:
                with suppress(aiohttp.ClientError, UnicodeEncodeError):
                    await self.send(port, asked, site)

        async def one_raw(pieces: tuple[bytes, ...], *, leaves: bool) -> None:
            async with slots:
                await self.send_bytes(port, *pieces, leaves=leaves)

        raw = [whole(self.canaries), *malformed(self.canaries)]
        both = [(pieces, leaves) for pieces in raw for leaves in (False, True)]
        await asyncio.gather(*map(one, well_formed(self.canaries)))
        await asyncio.gather(*(one_raw(pieces, leaves=leaves) for pieces, leaves in both))
