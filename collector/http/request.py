"""A complete request, as its endpoint gets it, and how the endpoint answers."""

from collections.abc import Callable
from dataclasses import dataclass

from collector.http.answers import Answer
from collector.request.headers import Headers


@dataclass(slots=True)
class Request:
    """A request, the same for both HTTP parsers."""

    headers: Headers
    peer: str | None  # the address at the other end of the connection
    body: bytes = b""
    named: str = ""  # the text in place of the path's `{}`


Answered = Callable[[Answer | Exception], None]
"""Called once with a request's answer, or with the error that becomes its answer."""

Endpoint = Callable[[Request, Answered], None]
"""Answers now or later, or raises the error."""
