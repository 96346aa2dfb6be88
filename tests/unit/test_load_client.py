"""How the load's HTTP client reads answers, and the requests that it sends."""

import asyncio
import json

import jwt
import pytest

from bench.load.client import Address, Answer, read_answer
from bench.load.people import People, Token, Upgrade, Visit
from bench.load.request_builder import RequestBuilder, TokenSigner
from bench.load.sent_log import Who
from contract.calendar import SECOND_US
from contract.errors import Misconfigured
from runtime.clock import wall_clock

CREATED = b"HTTP/1.1 201 Created\r\nContent-Type: a/b\r\ncontent-LENGTH: 4\r\n\r\nbody"
KEY = "a-secret-of-thirty-two-bytes-or-more"
ID = bytes.fromhex("0199b0a0000070008000000100000000")


async def answer(received: bytes) -> Answer:
    """The answer that is read where these bytes come, and then the end of the connection."""
    reader = asyncio.StreamReader()
    reader.feed_data(received)
    reader.feed_eof()
    return await read_answer(reader)


@pytest.mark.parametrize("cut", range(len(CREATED)))
async def test_an_answer_that_is_not_complete_is_none(cut: int) -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        await answer(CREATED[:cut])


async def test_an_answer_ends_where_its_length_says() -> None:
    assert await answer(CREATED + b"HTTP") == Answer(201, b"body")


async def test_no_content_has_no_body() -> None:
    assert await answer(b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n") == Answer(204, b"")


async def test_an_answer_that_closes_the_connection_says_so() -> None:
    """A request that is sent on that connection afterwards gets no answer."""
    closing = CREATED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert (await answer(closing)).closes
    assert not (await answer(CREATED)).closes


@pytest.mark.parametrize(
    "received",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ],
)
async def test_bytes_that_are_no_answer_are_an_error(received: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own message
        await answer(received)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://impact.example.org/", "impact.example.org:80"),
        ("http://[::1]:81", "[::1]:81"),
    ],
)
def test_a_url_is_an_address(url: str, text: str) -> None:
    assert str(Address.parse(url)) == text


@pytest.mark.parametrize("url", ["https://a", "a:80", "", "http://", "http://a:x", "http://a/b"])
def test_what_is_no_url_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(Misconfigured, match="--url"):
        Address.parse(url)


@pytest.mark.parametrize("key", ["", "-----BEGIN PUBLIC KEY-----"])
def test_without_a_secret_nothing_can_be_signed(key: str) -> None:
    with pytest.raises(Misconfigured, match="JWT_KEY"):
        TokenSigner({"JWT_KEY": key})


def visit(token: Token = Token.NONE, upgrade: Upgrade = Upgrade.NONE, user: int = 1) -> Visit:
    who = Who.USER if token in (Token.HEADER, Token.BODY) else Who.VISITOR
    return Visit(who, 0, 5, user, token, upgrade, repeats_start=False, repeats_upgrade=False)


def asked(raw: bytes) -> tuple[str, dict[str, str], str]:
    head, _, body = raw.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert int(headers["Content-Length"]) == len(body)
    return first, headers, body


def builder() -> RequestBuilder:
    load = People(100, 1, 10, 5, 1, bytes(4))
    return RequestBuilder(load, TokenSigner({"JWT_KEY": KEY}), ("a.example.org",), "h:1")


def test_a_start_names_its_id_site_and_client() -> None:
    first, headers, body = asked(builder().start(visit(), ID))
    assert first == "POST /web_api/v1/sessions HTTP/1.1"
    assert json.loads(body) == {"id": "0199b0a0-0000-7000-8000-000100000000"}
    assert headers["Origin"] == "https://a.example.org"
    # On the left what the client claims, on the right what the proxy saw.
    assert headers["X-Forwarded-For"].startswith("198.51.100.1, ")
    assert "Authorization" not in headers


def test_a_token_is_in_the_header_or_in_the_body_or_is_none() -> None:
    make = builder()
    _, headers, _ = asked(make.start(visit(Token.HEADER), ID))
    claims = jwt.decode(headers["Authorization"].removeprefix("Bearer "), KEY, ["HS256"])
    assert claims["sub"] == "user-1"
    assert claims["highest_role"] == "admin"
    _, headers, body = asked(make.start(visit(Token.BODY), ID))
    assert "Authorization" not in headers
    assert jwt.decode(json.loads(body)["token"], KEY, ["HS256"])["sub"] == "user-1"
    _, headers, _ = asked(make.start(visit(Token.UNDEFINED), ID))
    assert headers["Authorization"] == "Bearer undefined"
    _, headers, _ = asked(make.start(visit(Token.EXPIRED), ID))
    options: jwt.types.Options = {"verify_signature": False}
    expired = jwt.decode(headers["Authorization"].removeprefix("Bearer "), options=options)
    assert expired["exp"] < wall_clock() / SECOND_US


def test_an_upgrade_names_its_session_or_current() -> None:
    make = builder()
    first, headers, _ = asked(make.upgrade(visit(upgrade=Upgrade.BY_ID), ID))
    assert first.split()[1].endswith("/0199b0a0-0000-7000-8000-000100000000/upgrade")
    assert headers["Authorization"].startswith("Bearer ey")
    first, _, body = asked(make.upgrade(visit(upgrade=Upgrade.CURRENT, user=2), ID))
    assert first.split()[1].endswith("/sessions/current/upgrade")
    assert json.loads(body)["token"].startswith("ey")
