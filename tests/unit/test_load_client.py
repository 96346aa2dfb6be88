"""bench/load/client.py: how a load parses answers and its settings."""

import asyncio

import pytest

from bench.load.client import Address, Answer, read_answer
from bench.load.request_builder import TokenSigner
from contract.errors import Misconfigured

CREATED = b"HTTP/1.1 201 Created\r\nContent-Type: a/b\r\ncontent-LENGTH: 4\r\n\r\nbody"


async def answer(received: bytes) -> Answer:
    """The answer that is read when these bytes arrive, and then the end of the connection."""
    reader = asyncio.StreamReader()
    reader.feed_data(received)
    reader.feed_eof()
    return await read_answer(reader)


async def test_an_answer_ends_where_its_length_says() -> None:
    for cut in range(len(CREATED)):
        with pytest.raises(asyncio.IncompleteReadError):
            await answer(CREATED[:cut])
    assert await answer(CREATED + b"HTTP") == Answer(201, b"body")
    assert await answer(b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n") == Answer(204, b"")
    closing = CREATED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert await answer(closing) == Answer(201, b"body", closes=True)


@pytest.mark.parametrize(
    "received",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_an_error(received: bytes) -> None:
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
def test_a_wrong_url_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(Misconfigured, match="--url"):
        Address.parse(url)


@pytest.mark.parametrize("key", ["", "-----BEGIN PUBLIC KEY-----"])
def test_without_a_secret_nothing_can_be_signed(key: str) -> None:
    with pytest.raises(Misconfigured, match="JWT_KEY"):
        TokenSigner({"JWT_KEY": key})
