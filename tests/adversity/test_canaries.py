"""Nothing personal leaves the collector's memory: canaries are sent everywhere and found nowhere.

Every field of a request carries a marker of this run: good requests, bad ones, and those that meet
a server that is frozen, full or killed. The servers write down whatever passes (append-only file,
RDB file, slow log, MONITOR, every statement with its parameters, debug lines), and our processes
log at their lowest level. Then every byte of all of it is searched, and the salt is searched for
in all places but those that keep it.

A search that can't find proves nothing, so afterwards a canary is planted in each of these places,
and has to be found there.
"""

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import secrets
import signal
import struct
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import asyncpg
import jwt
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
from prometheus_client import CollectorRegistry, Counter
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ResponseError

from contract import keys
from contract.calendar import SECOND_US, Month
from contract.identity import SALT_BYTES
from contract.record import SITE_MAX_BYTES, SessionStarted, encode
from embedded.postgres import PostgresServer
from embedded.valkey import ValkeyServer
from flusher.stream.dead_letters import DeadLetters, as_table, as_text
from runtime.admin import AdminListener
from runtime.clock import wall_clock
from runtime.redis_client import connect_redis
from runtime.shards import OneServer
from tests.servers import POSTGRES_SETTINGS
from tests.system import Program, PythonSystem, eventually, find_free_port, run_command

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
SESSIONS = "/web_api/v1/sessions"
SITE = "city.example.org"
REFUSED_SITE = "refused.example.org"  # by PostgreSQL, once the test has said so
SHARDS = 4

# Whatever passes is kept, uncompressed, for the search.
REDIS_CONFIG = {
    "appendonly": "yes",
    "auto-aof-rewrite-percentage": "0",
    "save": "3600 1",
    "rdbcompression": "no",
    "slowlog-log-slower-than": "0",
    "slowlog-max-len": "100000",
    "loglevel": "debug",
    "enable-debug-command": "yes",
}
POSTGRES_CONFIG = POSTGRES_SETTINGS | {
    "log_statement": "all",
    "log_min_duration_statement": "0",
    "log_min_messages": "debug2",
    "log_error_verbosity": "verbose",
    "log_connections": "on",
    "log_parameter_max_length_on_error": "-1",
}

# A collector in which steps fail with exceptions that quote what they were given: the request and
# the salt. Which one, the request's own site says, and only inside of these functions.
FAULTY_COLLECTOR = '''
import asyncio
import runpy

from collector.http import answers
from collector import examination
from collector.http.answering import Answering
from contract.identity import Hasher


def fail_in(owner, name):
    whole = getattr(owner, name)

    def step(*arguments):
        if f"{name}.fault" in repr(arguments):
            raise RuntimeError(f"{name} failed: {arguments!r}", *arguments)
        return whole(*arguments)

    setattr(owner, name, step)


fail_in(examination, "parse_body")
fail_in(Hasher, "visitor")
fail_in(Hasher, "user")
fail_in(answers, "allow_origin")
begin = Answering.begin


async def fail(error):
    raise error


def lose(answering, route, request, send):
    """Where nobody waits for it, the event loop itself says what became of an exception."""
    if "loop.fault" in request.headers.get("Origin", ""):
        error = RuntimeError(f"lost: {request.headers!r} {request.peer}")
        loop = asyncio.get_running_loop()
        loop.create_future().set_exception(error)
        loop.create_task(fail(error))
        loop.call_soon(lambda: 1 / 0 + int(str(request.headers)))
        loop.call_soon(int, str(request.headers))
    return begin(answering, route, request, send)


Answering.begin = lose
runpy.run_module("collector", run_name="__main__")
'''
FAULTS = ("visitor", "user", "allow_origin", "loop")

# A line in the log of a process of ours.
PLANTED_LINE = """
import os

import structlog

from runtime.logs import configure_logging

configure_logging(os.environ, "planted")
for planted in os.environ["PLANTED"].split():
    value = bytes.fromhex(planted).decode("latin-1")
    structlog.get_logger().debug("planted", value=value)
"""


def alignments(secret: bytes) -> Iterator[bytes]:
    """What of a secret's base64 is the same wherever in the encoded text it lies."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)
        whole = encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        yield whole
        yield whole.translate(bytes.maketrans(b"+/", b"-_"))


def escaped(secret: bytes) -> bytes:
    """As Redis writes bytes in its slow log, its own log and MONITOR."""
    plain = {7: b"\\a", 8: b"\\b", 9: b"\\t", 10: b"\\n", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}
    return b"".join(
        plain.get(byte) or (bytes([byte]) if 32 <= byte < 127 else b"\\x%02x" % byte)
        for byte in secret
    )


def forms(secret: bytes) -> set[bytes]:
    """Every form in which bytes are written down: as they are, and as programs print them."""
    return {
        secret,
        secret.upper(),
        secret.hex().encode(),
        secret.hex().upper().encode(),
        secret.hex(" ").encode(),
        secret.hex(":").encode(),
        escaped(secret),
        repr(secret)[2:-1].encode(),
        quote(secret).encode(),
        "".join(f"\\{byte:03o}" for byte in secret).encode(),
        str(list(secret))[1:-1].encode(),
        secret.decode("latin-1").encode(),
        secret.decode("latin-1").encode("utf-16-le"),
        *alignments(secret),
    }


@dataclass(frozen=True, slots=True)
class Canaries:
    """Markers of one run, with a common part for each kind, which is what is searched for."""

    # No letters that could make a word, or a crawler's name.
    stem: str = field(default_factory=lambda: "".join(secrets.choice("kqxzvj") for _ in range(14)))
    network: bytes = field(default_factory=lambda: bytes(random_octets(0x20, 4)))
    interface: bytes = field(default_factory=lambda: bytes(random_octets(0x20, 6)))
    host: bytes = field(default_factory=lambda: bytes(random_octets(100, 3)))
    signature: set[bytes] = field(default_factory=set)

    def __call__(self, name: str) -> str:
        """A marker that says where it was."""
        return f"{self.stem}-{name}"

    def ipv6(self, last: int) -> IPv6Address:
        """An address with this run's network and, but for its last two bytes, interface."""
        return IPv6Address(
            b"\x20\x01\x0d\xb8" + self.network + self.interface + struct.pack(">H", 0x2000 + last)
        )

    def ipv4(self, last: int) -> IPv4Address:
        return IPv4Address(self.host + bytes((100 + last,)))

    def loopback(self) -> str:
        """An address of this machine that the collector sees as the other end."""
        return f"127.{self.host[0]}.{self.host[1]}.{self.host[2]}"

    def token(self, key: str, user: str | None = None, **claims: Any) -> str:
        """A token whose three parts are searched for, too."""
        document = {
            "sub": user or self("sub"),
            "email": self("email"),
            "exp": wall_clock() // SECOND_US + 600,
            **claims,
        }
        token = jwt.encode(document, key, headers={"kid": self("kid")})
        return self.seen(token)

    def seen(self, token: str) -> str:
        """Notes a token's parts. Those before the signature hold the stem, in base64."""
        self.signature.add(token.rpartition(".")[2].encode()[:24])
        return token

    def forms(self) -> set[bytes]:
        groups = self.ipv6(0).exploded.split(":")
        addresses = {
            # The /64's, and the interface's: a part that is written down is a part too many.
            ":".join(groups[2:4]).encode(),
            ":".join(groups[4:7]).encode(),
            f"{self.host[0]}.{self.host[1]}.{self.host[2]}.".encode(),
            self.loopback().encode(),
            b"%02x%02x:%02x64" % (self.host[0], self.host[1], self.host[2]),
        }
        packed = {b"\x0d\xb8" + self.network, self.interface}
        return {
            *forms(self.stem.encode()),
            *addresses,
            *(form for secret in packed for form in forms(secret)),
            *self.signature,
        }

    def weak_forms(self, addresses: Iterable[IPv4Address]) -> dict[bytes, IPv4Address]:
        """Four bytes come about by chance; those of several addresses do not."""
        return {
            form: address
            for address in addresses
            for form in (address.packed, address.packed.hex().encode(), str(int(address)).encode())
        }


def random_octets(least: int, count: int) -> Iterable[int]:
    """None of them is written with fewer digits than another, in hex or decimal."""
    return (secrets.choice(range(least, 200)) for _ in range(count))


def context(data: bytes, at: int) -> str:
    return repr(data[max(at - 80, 0) : at + 120])


@dataclass
class Places:
    """Everything that was written down, by the name of its place."""

    folders: dict[str, Path]
    texts: dict[str, bytes] = field(default_factory=dict)

    def read(self, *left_out: str) -> Iterator[tuple[str, bytes]]:
        for name, folder in self.folders.items():
            for path in folder.rglob("*"):
                # Files come and go while servers run.
                with suppress(FileNotFoundError):
                    if path.is_file() and name not in left_out:
                        yield f"{name}/{path.relative_to(folder)}", path.read_bytes()
        for name, text in self.texts.items():
            if name.partition("/")[0] not in left_out:
                yield name, text

    def find(self, wanted: Iterable[bytes], *left_out: str) -> dict[str, str]:
        """The places that hold any of `wanted`, with what is around it there."""
        wanted = list(wanted)
        return {
            name: context(data, data.index(form))
            for name, data in self.read(*left_out)
            for form in wanted
            if form in data
        }

    def find_several(self, wanted: Mapping[bytes, object]) -> dict[str, str]:
        """As `find`, where one find is chance: the forms of more than two different things."""
        found: dict[str, str] = {}
        for name, data in self.read():
            things = {thing for form, thing in wanted.items() if form in data}
            if len(things) > 2:
                found[name] = repr(things)
        return found


@dataclass
class Site:
    """A front-end that sends canaries, in all that it says, from an address that is one."""

    canaries: Canaries
    key: str
    http: aiohttp.ClientSession
    statuses: list[int] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(100_000)))

    def headers(self, site: str = SITE, **headers: str | None) -> dict[str, str]:
        c = self.canaries
        number = next(self.numbers)
        sent: dict[str, str | None] = {
            "Origin": f"https://{site}",
            "X-Forwarded-For": f"{c('xff')}, {c.ipv6(number % 9000)}",
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
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return {name: value for name, value in sent.items() if value is not None}

    async def send(
        self,
        port: int,
        method: str = "POST",
        path: str = SESSIONS,
        *,
        site: str = SITE,
        headers: Mapping[str, str | None] | None = None,
        **options: Any,
    ) -> int:
        async with self.http.request(
            method,
            f"http://127.0.0.1:{port}{path}",
            headers=self.headers(site, **(headers or {})),
            **options,
        ) as response:
            await response.read()
            self.statuses.append(response.status)
            return response.status

    async def send_raw(self, port: int, *pieces: bytes, half: bool = False) -> None:
        """Bytes as they are; the connection is left in the middle of it if `half`."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=(self.canaries.loopback(), 0)
        )
        with suppress(OSError):  # whoever is refused is cut off
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if not half:
                writer.write_eof()
                async with asyncio.timeout(3):
                    answer = await reader.read()
                if answer.startswith(b"HTTP/1.1 "):
                    self.statuses.append(int(answer[9:12]))
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def well_formed(self) -> list[dict[str, Any]]:
        """Requests that a client of HTTP can send; `site` is filled in by who sends them."""
        c, key = self.canaries, self.key
        as_json: dict[str, str | None] = {"Content_Type": "application/json"}
        forged = c.seen(jwt.encode({"sub": c("forged")}, "another key, also of more than 32 bytes"))
        unsigned = jwt.encode({"sub": c("unsigned")}, "", algorithm="none")
        addresses = [
            f"{c.ipv6(1)}",
            c.ipv6(2).exploded,
            f"[{c.ipv6(3)}]:443",
            f"{c.ipv6(4)}%{c('zone')}",
            f"::ffff:{c.ipv4(0)}",
            *(str(c.ipv4(last)) for last in range(6)),
            f"{c.ipv4(6)}:65000",
            f"{c.ipv4(7)}, {c('garbage')}",
            c("garbage"),
        ]
        tokens = [
            c.token(key),
            c.token(key, exp=1),
            c.token(key, user=f"{c('nul')}\0"),
            c.token(key, user=c("long") * 20),
            c.token(key, highest_role=f"{c('role')}\0"),
            c.token(key, highest_role=c("role") * 9),
            c.token(key, exp=c("exp")),
            c.token(key, aud=c("aud")),
            c.seen(signed(key, b'{"sub":"%s\\ud800"}' % c("surrogate").encode())),
            c.seen(signed(key, b'{"sub":"%s"' % c("cut").encode())),
            c.seen(signed(key, b'["%s"]' % c("list").encode())),
            c.seen(signed(key, b'{"sub":"%s","exp":1e999}' % c("infinite").encode())),
            forged,
            unsigned,
            f"{c('header')}.{c('payload')}.{c('signature')}",
            c("bearer"),
            "undefined",
        ]
        authorizations = [*(f"Bearer {token}" for token in tokens), f"Basic {c('basic')}"]
        bodies: list[tuple[bytes, str]] = [
            (json.dumps({c("key"): c("value"), "address": str(c.ipv6(5))}).encode(), "text/plain"),
            (json.dumps({"token": c.token(key)}).encode(), "application/json"),
            (json.dumps({"token": [c("token")]}).encode(), "application/json"),
            (json.dumps({"id": c("id")}).encode(), "application/json"),
            (json.dumps([c("list")]).encode(), "application/json"),
            (f'{{"{c("open")}"'.encode(), "application/json"),
            (f'{{"a":NaN,"b":"{c("nan")}"}}'.encode(), "application/json"),
            (b'{"a":"\xff%s"}' % c("latin").encode(), "application/json"),
            (b"[" * 3000 + c("deep").encode(), "application/json"),
            (c("form").encode(), "application/x-www-form-urlencoded"),
            (c("other").encode(), c("type")),
            (c("part").encode(), f"multipart/form-data; boundary={c('boundary')}"),
            (b"{}", f"application/json; charset={c('charset')}"),
            ((c("large") * 1200).encode(), "application/json"),
        ]
        encodings = [
            ("gzip", gzip.compress(json.dumps({"a": c("gzip")}).encode())),
            ("gzip", gzip.compress((c("bomb") * 4000).encode())),
            ("gzip", c("not-gzip").encode()),
            ("deflate", c("not-deflate").encode()),
            (c("encoding"), b"{}"),
        ]

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(6):
                yield c("chunk").encode() * 50

        current = f"{SESSIONS}/current/upgrade"
        requests: list[dict[str, Any]] = [
            {},
            *({"headers": {"X_Forwarded_For": address}} for address in addresses),
            *({"headers": {"Authorization": value}} for value in authorizations),
            *(
                {"method": method, "path": current, "headers": {"Authorization": value}}
                for value in authorizations
                for method in ("PATCH", "POST")
            ),
            {"method": "PATCH", "path": current, "json": {"token": c.token(key)}},
            *({"data": body, "headers": {"Content_Type": kind}} for body, kind in bodies),
            *(
                {"data": body, "headers": as_json | {"Content_Encoding": encoding}}
                for encoding, body in encodings
            ),
            {"data": pieces(), "headers": as_json},
            {"headers": {"User_Agent": f"{GOOGLEBOT} {c('crawler')}"}},
            {"headers": {"User_Agent": None}},
            {"headers": {"User_Agent": f"{FIREFOX} {c('long')}" + c("x") * 200}},
            {"headers": {"Origin": f"https://{SITE}/?{c('query')}#{c('fragment')}"}},
            {"headers": {"Origin": f"https://{c('user')}:{c('password')}@{SITE}"}},
            {"headers": {"Origin": f"https://{c('elsewhere')}.example.net"}},
            {"headers": {"Origin": f"https://[{c('bracket')}"}},
            {"headers": {"Origin": None, "X_Forwarded_Host": f"{c('host')}.example.net"}},
            {"headers": {"Origin": None, "Host": f"{c('host')}.example.net"}},
            {"headers": {"Expect": c("expect")}},
            {"headers": {"Connection": "Upgrade", "Upgrade": c("upgrade")}, "json": {}},
            {"path": f"{SESSIONS}?{c('query')}"},
            {"path": f"/{c('path')}"},
            {"path": f"{SESSIONS}/{c('session')}/upgrade", "method": "PATCH"},
            {"path": f"{SESSIONS}/%00%ff{c('session')}/upgrade", "method": "PATCH"},
            {"method": c.stem.upper()},
            {"method": "GET", "path": f"/demo?{c('demo')}"},
            {"method": "OPTIONS", "headers": {"Access_Control_Request_Method": c("method")}},
            {"method": "DELETE", "path": current},
        ]
        return requests

    def malformed(self) -> list[tuple[bytes, ...]]:
        """What is no HTTP, or stops being HTTP after a while."""
        c = self.canaries
        mark = c("raw").encode()
        start = f"POST {SESSIONS} HTTP/1.1\r\nHost: {SITE}\r\nConnection: close\r\n".encode()
        start += f"User-Agent: {FIREFOX} {c('raw-agent')}\r\n".encode()
        as_json = b"Content-Type: application/json\r\n"
        chunked = start + as_json + b"Transfer-Encoding: chunked\r\n\r\n"
        return [
            (start + b"Content-Length: 0\r\n\r\n",),
            (mark + b"\r\n\r\n",),
            (b"GET /" + mark + b" HTTP/9.9\r\n\r\n",),
            (b"GET /" + mark + b"\r\n\r\n",),
            (b"GET /" + mark * 800 + b" HTTP/1.1\r\n\r\n",),
            (b"P\x00ST /" + mark + b" HTTP/1.1\r\n\r\n",),
            (b"GET http://[" + mark + b" HTTP/1.1\r\nHost: a\r\n\r\n",),
            (b"CONNECT " + mark + b":443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + mark,),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + mark * 8,),
            (start + mark + b"\r\n\r\n",),
            (start + b"X-A: a\x00" + mark + b"\r\n\r\n",),
            (start + b"X A: " + mark + b"\r\n\r\n",),
            (start + b"X-A: " + mark * 800 + b"\r\n\r\n",),
            (start + b"".join(b"X-%d: %s\r\n" % (n, mark) for n in range(200)) + b"\r\n",),
            (start + b"Origin: https://" + SITE.encode() + b"/\xff\xfe" + mark + b"\r\n\r\n",),
            (start + b"Content-Length: " + mark + b"\r\n\r\n",),
            (start + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + mark,),
            (start + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + mark,),
            (start + b"Transfer-Encoding: " + mark + b"\r\n\r\n",),
            (chunked + b"5\r\n", mark + b"\r\n0\r\n\r\n"),
            (chunked, mark + b"\r\n"),
            (chunked + b"10000000000000000000;" + mark + b"\r\n", mark),
            (start + as_json + b"Content-Length: 500\r\n\r\n{", mark),
            (start + as_json + b"Content-Encoding: gzip\r\nContent-Length: 40\r\n\r\n", mark * 4),
        ]

    async def send_everything(self, port: int, site: str = SITE) -> None:
        """Every request there is; none of them ends this service."""
        at_once = asyncio.Semaphore(16)

        async def one(request: dict[str, Any]) -> None:
            async with at_once:
                with suppress(aiohttp.ClientError, UnicodeEncodeError):
                    await self.send(port, **{"site": site, **request})

        async def one_raw(pieces: tuple[bytes, ...], *, half: bool) -> None:
            async with at_once:
                await self.send_raw(port, *pieces, half=half)

        await asyncio.gather(*(one(request) for request in self.well_formed()))
        await asyncio.gather(
            *(one_raw(pieces, half=half) for pieces in self.malformed() for half in (False, True))
        )


def signed(key: str, payload: bytes) -> str:
    """A token that PyJWT would not make."""

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    message = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(payload)
    return (message + b"." + part(hmac.digest(key.encode(), message, hashlib.sha256))).decode()


def poison(stem: str) -> list[bytes]:
    """Records that are none, or that no collector can have made."""
    good = encode(
        SessionStarted(secrets.token_bytes(16), Month(2024, 2), 1, SITE, bytes(16), "user")
    )
    mark = stem.encode()
    return [
        mark,
        b"\x01" + mark,
        b"\x07" + mark,
        good[:1] + b"\x09" + good[2:] + mark,
        good + mark,
        good[:44] + b"\x20\xff" + mark,
        encode(
            SessionStarted(
                secrets.token_bytes(16), Month(2099, 1), 1, mark.decode(), bytes(16), None
            )
        ),
        encode(
            SessionStarted(
                secrets.token_bytes(16), Month(2024, 2), 1, mark.decode(), bytes(16), mark.decode()
            )
        ),
        encode(
            SessionStarted(
                secrets.token_bytes(16),
                Month(2024, 2),
                1,
                "x" * SITE_MAX_BYTES,
                bytes(16),
                mark.decode(),
            )
        ),
    ]


async def fetch_pages(url: str) -> bytes:
    """All that an admin listener says."""
    said = b""
    async with aiohttp.ClientSession() as http:
        for page in ("livez", "readyz", "metrics"):
            async with http.get(f"{url}/{page}") as response:
                said += repr(response.headers).encode() + await response.read()
    return said


@asynccontextmanager
async def monitoring(port: int, path: Path) -> AsyncIterator[None]:
    """Writes down every command that Redis gets, as MONITOR tells it, through its restarts."""

    async def watch() -> None:
        with path.open("ab") as file:
            while True:
                with suppress(OSError):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    try:
                        writer.write(b"MONITOR\r\n")
                        while data := await reader.read(65536):
                            file.write(data)
                            file.flush()
                    finally:
                        writer.close()
                await asyncio.sleep(0.05)  # it is away: until the next try

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@dataclass
class Stage:
    """The system under this test, and everything that it writes."""

    redis: ValkeyServer
    postgres: PostgresServer
    system: PythonSystem
    places: Places
    canaries: Canaries
    key: str
    client: Redis

    async def collect_pages(self, moment: str) -> None:
        """What the processes tell about themselves now."""
        for number, program in enumerate(self.system.programs):
            name = f"pages/{program.module}-{number} {moment}"
            self.places.texts[name] = await fetch_pages(program.admin_url)

    async def collect_status(self) -> None:
        told = await asyncio.gather(
            run_command("flusher", "status", **self.system.environment),
            run_command("rotation", "status", "--json", **self.system.environment),
        )
        self.places.texts["status/now"] = repr(told).encode()
        shards = OneServer(connect_redis(self.redis.url), SHARDS)
        letters = [letter async for letter in DeadLetters(shards).all()]
        await shards.aclose()
        self.places.texts["status/dead letters"] = as_table(letters).encode()
        self.places.texts["dead-letters/shown"] = "\n".join(map(as_text, letters)).encode()

    async def collect_slow_log(self, moment: str) -> None:
        entries = await self.client.slowlog_get(100_000)
        self.places.texts[f"slowlog/{moment}"] = b"\n".join(
            bytes(entry["command"]) for entry in entries
        )
        letters = [await self.client.xrange(keys.dead_letters(shard)) for shard in range(SHARDS)]
        self.places.texts[f"dead-letters/{moment}"] = repr(letters).encode()

    async def save(self) -> None:
        """Redis writes its RDB file, now."""
        await eventually(self._saved)

    async def _saved(self) -> bool:
        with suppress(ResponseError):  # one is being written in the background
            return bool(await self.client.save())
        return False

    async def checkpoint(self) -> None:
        """PostgreSQL writes its tables' files, now."""
        connection = await asyncpg.connect(self.postgres.dsn())
        await connection.execute("CHECKPOINT")
        await connection.close()

    async def dead_letters(self) -> int:
        return sum([await self.client.xlen(keys.dead_letters(shard)) for shard in range(SHARDS)])

    async def entries(self) -> int:
        return sum([await self.client.xlen(keys.stream(shard)) for shard in range(SHARDS)])

    async def no_disposal_is_due(self) -> bool:
        return await self.client.get(keys.DISPOSAL_DUE) is None


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    before = children()
    canaries = Canaries()
    key = f"{canaries('key')} of more than thirty-two bytes"
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "faulty_collector.py").write_text(FAULTY_COLLECTOR)
    (programs / "planted_line.py").write_text(PLANTED_LINE)
    extra = {
        "JWT_KEY": key,
        "SITES": "*.example.org",
        "STREAM_SHARDS": str(SHARDS),
        "FLUSH_CLAIM_SECONDS": "1",
        "PYTHONPATH": str(programs),
    }
    folders = {name: tmp_path / name for name in ("redis", "postgres", "logs", "monitor")}
    folders["monitor"].mkdir()
    with (
        ValkeyServer(folders["redis"], config=REDIS_CONFIG) as redis,
        PostgresServer(folders["postgres"], settings=POSTGRES_CONFIG, sync=False) as postgres,
        PythonSystem(redis.url, postgres.dsn(), folders["logs"], extra) as system,
    ):
        async with monitoring(redis.port, folders["monitor"] / "monitor.txt"):
            # It comes through the restarts, too.
            client = Redis.from_url(redis.url, retry=Retry(ConstantBackoff(0.05), 100))
            yield Stage(redis, postgres, system, Places(folders), canaries, key, client)
            await client.aclose()
        started = children() - before
    assert not [pid for pid in started if psutil.pid_exists(pid)], "everything is gone at the end"


async def _async(value: Any) -> Any:
    return value


@dataclass
class Play:
    """The acts, in their order, on a running system."""

    stage: Stage
    site: Site
    collectors: list[Program]
    flushers: list[Program]
    faulty: Program

    @property
    def ports(self) -> list[int]:
        return [int(program.environment["PORT"]) for program in (*self.collectors, self.faulty)]

    async def count(self, site: str) -> int:
        connection = await asyncpg.connect(self.stage.postgres.dsn())
        found = await connection.fetchval("SELECT count(*) FROM sessions WHERE site = $1", site)
        await connection.close()
        return int(found)

    async def requests_of_every_kind(self) -> None:
        await asyncio.gather(*(self.site.send_everything(port) for port in self.ports))
        admin = [int(program.environment["ADMIN_PORT"]) for program in self.stage.system.programs]
        await asyncio.gather(*(self.site.send_everything(port) for port in admin))
        assert {201, 202, 204, 400, 401, 403, 404, 405, 413, 415} <= set(self.site.statuses)
        assert 500 not in self.site.statuses
        accepted = self.site.statuses.count(201)
        assert accepted > 100, self.site.statuses
        await eventually(lambda: self.count(SITE), lambda rows: rows > 100)

    async def faults_that_quote_the_request(self) -> None:
        port = int(self.faulty.environment["PORT"])
        for fault in FAULTS:
            await self.site.send_everything(port, f"{fault}.fault.example.org")
        body = {self.site.canaries("fault"): "parse_body.fault"}
        assert await self.site.send(port, json=body) == 500
        assert "this is a fault in the collector" in self.faulty.log  # written now and then
        failed = await self.faulty.metrics()
        assert failed['impact_failed_total{reason="fault"}'] > 50

    async def what_the_flusher_has_to_set_aside(self, poisoned: str) -> None:
        connection = await asyncpg.connect(self.stage.postgres.dsn())
        await connection.execute(
            f"ALTER TABLE sessions ADD CONSTRAINT refused CHECK (site <> '{REFUSED_SITE}')"
        )
        await connection.close()
        letters = poison(poisoned)
        for number, letter in enumerate(letters):
            await self.stage.client.xadd(keys.stream(number % SHARDS), {"e": letter, poisoned: "1"})
        for _ in range(3):
            assert await self.site.send(self.ports[0], site=REFUSED_SITE) == 201
            assert await self.site.send(self.ports[0]) == 201
        expected = len(letters) + 3
        await eventually(self.stage.dead_letters, lambda dead: dead == expected)
        await eventually(self.stage.entries, lambda left: left == 0)

    async def redis_is_full(self) -> None:
        await self.stage.client.config_set("maxmemory", 1)
        assert await self.site.send(self.ports[0]) == 503
        await self.stage.collect_pages("full")
        await self.stage.client.config_set("maxmemory", 0)
        await self.works_again()

    async def outages(self) -> None:
        """PostgreSQL is killed in the middle of a flush; Redis freezes, and is killed."""
        self.stage.postgres.freeze()
        sent = [self.site.send(port) for port in self.ports for _ in range(10)]
        assert set(await asyncio.gather(*sent)) == {201}
        await eventually(self.pending, lambda pending: pending > 0)
        await self.stage.save()  # with sessions in it that are no rows yet
        held = (self.stage.redis.data_dir / "dump.rdb").read_bytes()
        assert SITE.encode() in held
        self.stage.places.texts["redis/held.rdb"] = held
        self.stage.postgres.kill()
        await eventually(self.a_flusher_waits)
        self.stage.redis.freeze()
        statuses, _ = await asyncio.gather(self.refused(), self.misconfigurations())
        assert statuses == {503}
        await self.stage.collect_pages("frozen")
        self.stage.redis.kill()
        assert await self.refused() == {503}
        self.stage.redis.start()
        self.stage.postgres.start()
        await self.works_again()

    async def pending(self) -> int:
        summaries = [
            await self.stage.client.xpending(keys.stream(shard), keys.GROUP)
            for shard in range(SHARDS)
        ]
        return sum(summary["pending"] for summary in summaries)

    async def refused(self) -> set[int]:
        """What requests are told that wait, while others don't wait to be told."""
        token = self.site.canaries.token(self.site.key)
        head = {**self.site.headers(), "Host": SITE, "Content-Length": "0"}
        lines = [f"POST {SESSIONS} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
        impatient = "\r\n".join([*lines, "", ""]).encode()
        upgrade = f"{SESSIONS}/current/upgrade"
        headers = {"Authorization": f"Bearer {token}"}
        statuses = await asyncio.gather(
            *(self.site.send(port, headers=headers) for port in self.ports),
            *(self.site.send(port, "PATCH", upgrade, headers=headers) for port in self.ports),
            *(self.site.send(port, json={self.site.canaries("body"): 1}) for port in self.ports),
            *(self.leave(port, impatient) for port in self.ports),
        )
        return {status for status in statuses if status is not None}

    async def leave(self, port: int, request: bytes) -> None:
        await self.site.send_raw(port, request, half=True)

    async def a_flusher_waits(self) -> bool:
        return any("PostgreSQL" in flusher.log for flusher in self.flushers)

    async def statuses_now(self) -> set[int]:
        return set(await asyncio.gather(*(self.site.send(port) for port in self.ports)))

    async def writes(self) -> list[float]:
        """How many writes to Redis each collector has begun."""
        told = await asyncio.gather(
            *(program.metrics() for program in (*self.collectors, self.faulty))
        )
        return [metrics["impact_append_batch_size_count"] for metrics in told]

    async def works_again(self) -> None:
        await eventually(self.statuses_now, lambda statuses: statuses == {201})
        for program in self.stage.system.programs:
            await program.ready()
        await eventually(self.stage.entries, lambda left: left == 0)

    async def misconfigurations(self) -> None:
        canary = self.site.canaries("setting")
        cases: list[tuple[str, dict[str, str]]] = [
            ("collector", {"JWT_KEY": canary, "JWT_ALGORITHMS": "RS256"}),
            ("collector", {"REDIS_URL": f"redis://:{canary}@127.0.0.1:port"}),
            ("rotation", {"SALT_REDIS_URL": f"http://:{canary}@127.0.0.1"}),
            ("flusher", {"DATABASE_URL": f"mysql://impact:{canary}@127.0.0.1/impact"}),
        ]
        environment = self.stage.system.environment
        told = await asyncio.gather(
            *(run_command(module, **{**environment, **settings}) for module, settings in cases)
        )
        assert {code for code, _, _ in told} == {2}, told
        self.stage.places.texts["command/misconfigured"] = repr(told).encode()

    async def ends(self) -> None:
        """Asked to stop while requests wait for Redis, the collectors answer them before."""
        collectors = [*self.collectors, self.faulty]
        writes = await self.writes()
        self.stage.redis.freeze()
        waiting = asyncio.gather(*(self.site.send(port) for port in self.ports))
        await eventually(
            self.writes, lambda now: all(a > b for a, b in zip(now, writes, strict=True))
        )
        for collector in collectors:
            collector.running.send_signal(signal.SIGTERM)
            await eventually(lambda c=collector: _async("stopping:" in c.log))  # type: ignore[misc]  # mypy infers no lambda with a default
        self.stage.redis.thaw()
        assert set(await waiting) == {201}
        for collector in collectors:
            assert await collector.exit_code() == 0, collector.log
        await eventually(self.stage.entries, lambda left: left == 0)
        for program in self.stage.system.programs:
            if program.running.poll() is None:
                assert await program.stop() == 0, program.log


@asynccontextmanager
async def playing(stage: Stage) -> AsyncIterator[tuple[Play, bytes]]:
    """The system, started, and its salt."""
    code, _, errors = await run_command("flusher", "migrate", **stage.system.environment)
    assert code == 0, errors
    await stage.system.start("rotation")
    await eventually(stage.no_disposal_is_due)
    as_json = {"LOG_FORMAT": "json", "PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"}
    system = stage.system
    collectors = [
        system.program("collector", PORT=str(find_free_port())),
        system.program("collector", PORT=str(find_free_port()), **as_json),
    ]
    faulty = system.program("faulty_collector", PORT=str(find_free_port()))
    flushers = [system.program("flusher"), system.program("flusher", **as_json)]
    await asyncio.gather(*(program.start().ready() for program in (*collectors, faulty, *flushers)))
    month: Any = await stage.client.get(keys.CURRENT_SALT)
    salt: Any = await stage.client.get(keys.salt(Month.parse(month.decode())))
    assert len(salt) == SALT_BYTES
    async with aiohttp.ClientSession(skip_auto_headers=["User-Agent"]) as http:
        yield Play(stage, Site(stage.canaries, stage.key, http), collectors, flushers, faulty), salt


def look_at_processes(stage: Stage) -> None:
    for program in stage.system.programs:
        process = psutil.Process(program.running.pid)
        name = f"{program.module} {process.pid}"
        stage.places.texts[f"cmdline/{name}"] = "\0".join(process.cmdline()).encode()
        stage.places.texts[f"environ/{name}"] = repr(process.environ()).encode()


async def plant(stage: Stage, planted: str) -> None:
    """A canary in every place that is searched, in the way in which things come there."""
    client = stage.client
    await client.set("planted", planted)
    await client.xadd(keys.dead_letters(0), {"e": planted})
    await client.execute_command("DEBUG", "LOG", planted)  # type: ignore[no-untyped-call]  # redis-py's
    connection = await asyncpg.connect(stage.postgres.dsn())
    await connection.execute("CREATE TABLE planted (text text)")
    await connection.execute("INSERT INTO planted VALUES ($1)", planted)
    await connection.close()
    registry = CollectorRegistry()
    Counter("planted", "A label that quotes.", ("by",), registry=registry).labels(planted).inc()
    port = find_free_port()
    listener = AdminListener("127.0.0.1", port, registry, lambda: {"planted": planted})
    await listener.start()
    stage.places.texts["pages/planted"] = await fetch_pages(f"http://127.0.0.1:{port}")
    await listener.close()
    hexes = " ".join(form.hex() for form in forms(planted.encode()))
    line = stage.system.program("planted_line", PLANTED=hexes)
    assert await line.start().exit_code() == 0, line.log
    await stage.save()
    await stage.checkpoint()
    await stage.collect_slow_log("planted")


def kinds(found: Iterable[str]) -> set[str]:
    """Of files and texts, what they are."""
    parts = {
        ".aof": "append-only file",
        ".rdb": "RDB file",
        "redis/server.log": "Redis's log",
        "postgres/cluster/base": "tables",
        "postgres/cluster/pg_wal": "WAL",
        "postgres/server.log": "PostgreSQL's log",
        "monitor/": "MONITOR",
        "slowlog/": "slow log",
        "dead-letters/": "dead letters",
        "logs/": "our logs",
        "pages/": "admin pages",
    }
    return {kind for name in found for part, kind in parts.items() if part in name}


@pytest.mark.long
async def test_no_canary_is_found_anywhere(stage: Stage) -> None:
    places, canaries = stage.places, stage.canaries
    poisoned = Canaries().stem
    async with playing(stage) as (play, salt):
        await play.requests_of_every_kind()
        await play.faults_that_quote_the_request()
        await play.what_the_flusher_has_to_set_aside(poisoned)
        await stage.collect_pages("after requests")
        await play.redis_is_full()
        await play.outages()
        await stage.collect_pages("at the end")
        await stage.collect_status()
        await stage.collect_slow_log("at the end")
        look_at_processes(stage)
        await play.ends()
    await stage.save()
    await stage.checkpoint()

    # The key is a setting; only the environment has it.
    assert places.find(canaries.forms(), "environ") == {}
    assert places.find_several(canaries.weak_forms(canaries.ipv4(n) for n in range(8))) == {}
    # What a broken record holds stays where it came from: in Redis.
    of_redis = ("redis", "monitor", "slowlog", "dead-letters")
    assert kinds(places.find(forms(poisoned.encode()))) >= {"append-only file", "dead letters"}
    assert places.find(forms(poisoned.encode()), *of_redis) == {}
    # The salt is in the files of its server, and in nothing else.
    salted = places.find(forms(salt), "monitor")
    assert kinds(salted) == {"append-only file", "RDB file"}, salted
    assert all(name.endswith((".aof", ".rdb")) for name in salted), salted

    planted = Canaries().stem
    await plant(stage, planted)
    assert len(kinds(places.find([planted.encode()]))) == 11
    for form in forms(planted.encode()):
        assert any(name.startswith("logs/") for name in places.find([form])), form
