"""The answers, as bytes. Their constant parts are built once, when the program starts."""

import json
import re
import struct
from binascii import hexlify
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from collector.buffer.pending import RETRY_AFTER_SECONDS
from contract.errors import Reject

_JSON = {"Content-Type": "application/json; charset=utf-8"}
_PREFLIGHT_SECONDS = "86400"
_METHODS = "POST, PATCH, OPTIONS"
# `*` does not include `Authorization`, and has no effect if a page sends credentials.
_ANY_HEADERS = "*, Authorization, Content-Type"
# Header names as browsers list them, separated by commas. No real list is longer.
_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
_LONGEST_NAMES = 2048
CLOSING = b"Connection: close\r\n"
_WITHOUT_BODY = 204  # nor a Content-Length (RFC 9110, section 8.6)


@dataclass(slots=True)
class Answer:
    """`head` is the status line and the headers, each with its line end."""

    status: int
    head: bytes
    body: bytes = b""


class NotAllowed(Reject):
    """The path exists, but not with this method."""

    def __init__(self, methods: tuple[str, ...]) -> None:
        """`methods`: those with which it exists."""
        super().__init__(405, "method", "This method is not one of this path's.")
        self.methods = methods


def make(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if status != _WITHOUT_BODY:
        lines.append(f"Content-Length: {len(body)}")
    return Answer(status, "".join(f"{line}\r\n" for line in lines).encode("latin-1"), body)


def _error(status: int, detail: str, headers: Mapping[str, str]) -> Answer:
    title = HTTPStatus(status).phrase
    body = {"errors": [{"status": str(status), "title": title, "detail": detail}]}
    return make(status, json.dumps(body).encode(), {**_JSON, **headers})


_STORED = b'{"data":{"id":"%b-%b-%b-%b-%b","type":"session"}}'
_GROUPS = struct.Struct("8s4s4s4s12s")  # of a UUID's digits
_STORED_HEAD = make(201, _STORED % (b"0" * 8, *(b"0" * 4,) * 3, b"0" * 12), _JSON).head
ACCEPTED_UPGRADE = make(202)
"""The upgrade is durably buffered."""
IGNORED = make(204)
"""Nothing is stored, and the caller should not try again."""
UNAVAILABLE = _error(
    503,
    "The session can't be stored just now. Try again later.",
    # A page's script reads it.
    {"Retry-After": str(RETRY_AFTER_SECONDS), "Access-Control-Expose-Headers": "Retry-After"},
)
"""Nothing is stored, and the caller should try again."""
BROKEN = _error(500, "The request could not be served.", {})
"""A fault of this program, which was logged."""


def stored_session(session_id: bytes) -> Answer:
    """201: the session is durably buffered."""
    return Answer(201, _STORED_HEAD, _STORED % _GROUPS.unpack(hexlify(session_id)))


def preflight(asked: str | None) -> Answer:
    """204: the answer to a CORS preflight (Fetch standard, section 4.8).

    All headers that `asked` (`Access-Control-Request-Headers`) names are allowed: pages' tools add
    their own to each request, and a browser blocks the request if one is not allowed.
    """
    is_list = asked is not None and len(asked) <= _LONGEST_NAMES and _NAMES.fullmatch(asked)
    return make(
        204,
        headers={
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": asked if asked and is_list else _ANY_HEADERS,
            "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
        },
    )


def rejected(error: Reject) -> Answer:
    """4xx: what is wrong with the request."""
    headers = {}
    if isinstance(error, NotAllowed):
        headers["Allow"] = ",".join(sorted(error.methods))
    if error.status == HTTPStatus.FORBIDDEN:
        # A page whose site is not allowed must be able to read this, or its beacon tries again.
        headers["Access-Control-Allow-Origin"] = "*"
    return _error(error.status, error.detail, headers)


def allow_origin(origin: str) -> bytes:
    """The header lines that let a page of this origin read the answer.

    They also allow credentials, because `sendBeacon` sends cookies with each JSON Blob. We neither
    read nor set cookies, so this gives a page nothing more.
    """
    return (
        b"Access-Control-Allow-Origin: %b\r\n"
        b"Access-Control-Allow-Credentials: true\r\n"
        b"Vary: Origin\r\n"
    ) % origin.encode("utf-8", "surrogateescape")


def to_bytes(answer: Answer, lines: bytes) -> bytes:
    """An answer as it is sent, with more header lines."""
    return b"%b%b\r\n%b" % (answer.head, lines, answer.body)
