"""A complete request, as an endpoint gets it, and how the endpoint responds."""

from collections.abc import Callable
from dataclasses import dataclass

from collector.http.answers import Answer
from collector.request.headers import Headers


@dataclass(slots=True)
class Request:
    """A request. It is the same from both HTTP parsers."""

    headers: Headers
    peer: str | None  # the address at the other end of the connection
    body: bytes = b""
    named: str = ""  # the text in place of the path's `{}`


Respond = Callable[[Answer | Exception], None]
"""An endpoint calls it once, with the answer or with the error that becomes the answer."""

Endpoint = Callable[[Request, Respond], None]
"""Responds now or later, or raises the error."""
