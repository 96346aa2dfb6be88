"""Limits the headers of a request that aiohttp parses, and reads its body up to its limit."""

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from collector.http.answering import has_a_coding
from collector.http.limits import MAX_HEAD, TOO_LARGE
from collector.request.body import MAX_BYTES
from contract.errors import Reject

_CHUNKED = "chunked"
_EXPECTED = "100-continue"


def check_headers(request: web.BaseRequest) -> None:
    """Raises Reject (431) for headers that are too large together: aiohttp limits only a line."""
    first = len(request.method) + len(request.raw_path) + len("  HTTP/1.1\r\n")
    others = sum(len(name) + len(value) + len(": \r\n") for name, value in request.raw_headers)
    if first + others + len("\r\n") > MAX_HEAD:
        raise TOO_LARGE


async def read_body(request: web.BaseRequest) -> bytes:
    """
    Raises:
        Reject: 413, it is too large; 400, it is malformed; 415, it has a content coding.
        ConnectionError: the client has gone.
    """
    content = request.content
    if request.headers.get(hdrs.TRANSFER_ENCODING, _CHUNKED).strip().lower() != _CHUNKED:
        raise has_a_coding()
    length = request.content_length
    if length is not None and length > MAX_BYTES:
        raise _too_large()
    if not content.is_eof():
        _send_continue(request)
    body = b""
    try:
        while not content.at_eof():
            if request.transport is None and not content.is_eof():
                raise ConnectionResetError("the client has gone")
            body += await content.readany()
            if len(body) > MAX_BYTES:
                raise _too_large()
    except web.RequestPayloadError:
        raise Reject(400, "body", "The body could not be read.") from None
    return body


def _send_continue(request: web.BaseRequest) -> None:
    """Asks for the body if the client waits for that (`Expect`; RFC 9110, section 10.1.1)."""
    transport = request.transport
    if (
        request.headers.get(hdrs.EXPECT, "").lower() == _EXPECTED
        and request.version >= HttpVersion11
        and transport is not None
    ):
        transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _too_large() -> Reject:
    return Reject(413, "too_large", f"The body is larger than {MAX_BYTES // 1024} KiB.")
