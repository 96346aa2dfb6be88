"""The answers, and the one place where an error becomes a status.

An answer is made of bytes. Its constant parts are built once, when the program starts.
"""

import json
import re
import struct
from binascii import hexlify
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from collector.buffer.pending import RETRY_AFTER_SECONDS
from contract.errors import Reject, Retry

_JSON = {"Content-Type": "application/json; charset=utf-8"}
_PREFLIGHT_SECONDS = "86400"
_METHODS = "POST, PATCH, OPTIONS"
# `*` does not include `Authorization`, and means nothing if a page sends credentials.
_ANY_HEADERS = "*, Authorization, Content-Type"
# What browsers send: lower case, sorted, separated by commas. No real list is longer.
_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
_LONGEST_NAMES = 2048
CLOSING = b"Connection: close\r\n"
_WITHOUT_BODY = 204  # nor a Content-Length (RFC 9110, section 8.6)


@dataclass(slots=True)
class Answer:
    """What is sent: `head` is the status line and the headers, each line with its end."""

    status: int
    head: bytes
    body: bytes = b""


class NotAllowed(Reject):
    """The path exists, but not with this method."""

    def __init__(self, methods: tuple[str, ...]) -> None:
        """`methods`: those that are."""
        super().__init__(405, "method", "This method is not one of this path's.")
        self.methods = methods


def make(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
    """An answer of any kind."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if status != _WITHOUT_BODY:
        lines.append(f"Content-Length: {len(body)}")
    return Answer(status, "".join(f"{line}\r\n" for line in lines).encode("latin-1"), body)


_STORED = b'{"data":{"id":"%b-%b-%b-%b-%b","type":"session"}}'
_GROUPS = struct.Struct("8s4s4s4s12s")  # of a UUID's digits
_STORED_HEAD = make(201, _STORED % (b"0" * 8, *(b"0" * 4,) * 3, b"0" * 12), _JSON).head
_ACCEPTED = make(202)
_IGNORED = make(204)


def stored_session(session_id: bytes) -> Answer:
    """201: the session is durably buffered."""
    return Answer(201, _STORED_HEAD, _STORED % _GROUPS.unpack(hexlify(session_id)))


def accepted_upgrade() -> Answer:
    """202: the upgrade is durably buffered."""
    return _ACCEPTED


def ignored() -> Answer:
    """204: nothing was stored, and nothing need be tried again."""
    return _IGNORED


def preflight(asked: str | None) -> Answer:
    """204: the answer to a CORS preflight (Fetch standard, section 4.8).

    Any header is allowed, since none but those that are known is looked at: pages' tools add their
    own to each request, and a browser blocks what was not allowed by name.

    Args:
        asked: `Access-Control-Request-Headers`.
    """
    named = asked is not None and len(asked) <= _LONGEST_NAMES and _NAMES.fullmatch(asked)
    return make(
        204,
        headers={
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": asked if asked and named else _ANY_HEADERS,
            "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
        },
    )


def rejected(error: Reject) -> Answer:
    """4xx: what is wrong with the request."""
    headers = {}
    if isinstance(error, NotAllowed):
        headers["Allow"] = ",".join(sorted(error.methods))
    if error.status == HTTPStatus.FORBIDDEN:
        # A page that is not counted may read that, too, or its beacon would try again.
        headers["Access-Control-Allow-Origin"] = "*"
    return _error(error.status, error.detail, headers)


def unavailable(_: Retry) -> Answer:
    """503: it is not stored; the caller should try again."""
    detail = "The session can't be stored just now. Try again later."
    headers = {
        "Retry-After": str(RETRY_AFTER_SECONDS),
        "Access-Control-Expose-Headers": "Retry-After",  # a page's script reads it
    }
    return _error(503, detail, headers)


def broken() -> Answer:
    """500: a fault of this program; the log has it."""
    return _error(500, "The request could not be served.", {})


def allow_origin(origin: str) -> bytes:
    """The header lines that let the page that asked read the answer.

    Also one that sends its cookies along, as `sendBeacon` does with each JSON Blob: no cookie is
    read here or set, so they give nothing to a page that it would not have without them.
    """
    return (
        b"Access-Control-Allow-Origin: %b\r\n"
        b"Access-Control-Allow-Credentials: true\r\n"
        b"Vary: Origin\r\n"
    ) % origin.encode("utf-8", "surrogateescape")


def to_bytes(answer: Answer, lines: bytes) -> bytes:
    """An answer as it is sent, with more header lines."""
    return b"%b%b\r\n%b" % (answer.head, lines, answer.body)


def _error(status: int, detail: str, headers: Mapping[str, str]) -> Answer:
    title = HTTPStatus(status).phrase
    body = {"errors": [{"status": str(status), "title": title, "detail": detail}]}
    return make(status, json.dumps(body).encode(), {**_JSON, **headers})
