"""Answers the requests that aiohttp has parsed.

An endpoint's answer is ours, as in `connection.py`; a page's is aiohttp's.
"""

import asyncio
import time
from http import HTTPStatus
from typing import cast

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from collector.http.answering import Answering, has_a_coding
from collector.http.answers import Answer
from collector.http.connections import Connections
from collector.http.limits import MAX_HEAD, headers_too_large
from collector.http.routes import Page, Request, Route, Routes
from collector.http.unusual import UnusualConnection
from collector.http.written import Written
from collector.request.body import MAX_BYTES
from contract.errors import Reject

_CHUNKED = "chunked"
_EXPECTED = "100-continue"
_ENDS_CONNECTION = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


class UnusualRequests:
    """Answers requests by the same rules as those that we parse."""

    def __init__(self, routes: Routes, answering: Answering, connections: Connections) -> None:
        self._routes = routes
        self._answering = answering
        self._connections = connections

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Called by aiohttp when it has read a request's headers."""
        connection = cast("UnusualConnection", request.protocol)
        connection.request_begins(request.content)
        try:
            return await self._answer(request, connection)
        finally:
            connection.request_ends()

    async def _answer(
        self, request: web.BaseRequest, connection: UnusualConnection
    ) -> web.StreamResponse:
        started = time.perf_counter()
        name, origin = "unknown", request.headers.get(hdrs.ORIGIN)
        # After a request to change the protocol, the next bytes might not be HTTP.
        keep_alive = request.keep_alive and hdrs.UPGRADE not in request.headers
        try:
            try:
                _check_headers(request)
                route, named = self._routes.find(request.method, request.path)
                name = route.name
            finally:
                body = await read_body(request)
                connection.body_received()
            if isinstance(route, Page):
                page = await route.show(request, named)
                self._answering.count(name, page.status, origin, started)
                if not keep_alive or self._connections.draining:
                    page.force_close()
                return page
        except Exception as error:  # noqa: BLE001 - each becomes an answer
            answer = self._answering.of_error(error)
            lines = self._answering.count(name, answer.status, origin, started)
            content = request.content
            if (
                answer.status in _ENDS_CONNECTION
                or not content.is_eof()
                or content.exception() is not None
            ):
                # Otherwise the rest of the body would be read as the next request.
                keep_alive = False
        else:
            answer, lines = await self._answer_of_endpoint(
                route, Request(request.headers, request.remote, body, named)
            )
        keep_alive = keep_alive and not self._connections.draining
        return Written(
            request, answer, lines, connection.close_when_answered, keep_alive=keep_alive
        )

    async def _answer_of_endpoint(self, route: Route, request: Request) -> tuple[Answer, bytes]:
        sent: asyncio.Future[tuple[Answer, bytes]] = asyncio.get_running_loop().create_future()

        def send(answer: Answer, lines: bytes) -> None:
            if not sent.done():  # otherwise its connection is gone
                sent.set_result((answer, lines))

        self._answering.begin(route, request, send)
        return await sent


def _check_headers(request: web.BaseRequest) -> None:
    """Raises Reject (431) for headers that are too large together: aiohttp limits only a line."""
    first = len(request.method) + len(request.raw_path) + len("  HTTP/1.1\r\n")
    others = sum(len(name) + len(value) + len(": \r\n") for name, value in request.raw_headers)
    if first + others + len("\r\n") > MAX_HEAD:
        raise headers_too_large()


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
