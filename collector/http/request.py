"""A request that has arrived whole, as its endpoint takes it, and how the endpoint answers."""

from collections.abc import Callable
from dataclasses import dataclass

from collector.http.answers import Answer
from collector.request.headers import Headers


@dataclass(slots=True)
class Request:
    """What the HTTP parsers know of it, whichever has read it."""

    headers: Headers
    peer: str | None  # the address at the other end of the connection
    body: bytes = b""
    named: str = ""  # what stood in the place of the path's `{}`


Answered = Callable[[Answer | Exception], None]
"""Takes a request's end, once: the answer, or the error that becomes one."""

Endpoint = Callable[[Request, Answered], None]
"""Answers now, or later; or raises the error."""
