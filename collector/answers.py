"""Step 8: the answers, and the one place where an error becomes a status."""

import json
import uuid
from http import HTTPStatus

from aiohttp import web

from collector.waiting import RETRY_AFTER_SECONDS
from contract.errors import Reject, Retry

_JSON = "application/json"
_PREFLIGHT_SECONDS = "86400"
_METHODS = "POST, PATCH, OPTIONS"
_HEADERS = "Authorization, Content-Type"


def stored_session(session_id: bytes) -> web.Response:
    """201: the session is durably buffered."""
    body = f'{{"data":{{"id":"{uuid.UUID(bytes=session_id)}","type":"session"}}}}'
    return web.Response(status=201, text=body, content_type=_JSON)


def accepted_upgrade() -> web.Response:
    """202: the upgrade is durably buffered."""
    return web.Response(status=202)


def ignored() -> web.Response:
    """204: nothing was stored, and nothing need be tried again."""
    return web.Response(status=204)


def preflight() -> web.Response:
    """204: the answer to a CORS preflight (Fetch standard, section 4.8)."""
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _HEADERS,
            "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
        },
    )


def rejected(error: Reject) -> web.Response:
    """4xx: what is wrong with the request."""
    response = _error(error.status, error.detail)
    if error.status == 403:
        # A page that is not counted may read that, too, or its beacon would try again.
        response.headers["Access-Control-Allow-Origin"] = "*"
    return response


def unavailable(_: Retry) -> web.Response:
    """503: it is not stored; the caller should try again."""
    response = _error(503, "The session can't be stored just now. Try again later.")
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    response.headers["Access-Control-Expose-Headers"] = "Retry-After"  # a page's script reads it
    return response


def broken() -> web.Response:
    """500: a fault of this program; the log has it."""
    return _error(500, "The request could not be served.")


def http_error(error: web.HTTPException) -> web.Response:
    """The framework's own refusals (404, 405, 413 …) in this service's form."""
    details = {
        404: "There is nothing at this path.",
        405: "This method is not one of this path's.",
        413: "The body is larger than 4 KiB.",
    }
    response = _error(error.status, details.get(error.status, error.reason))
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def allow_origin(response: web.StreamResponse, origin: str) -> None:
    """Lets the page that asked read the answer; that of a page says itself who may."""
    if "Cross-Origin-Resource-Policy" in response.headers:
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Vary"] = "Origin"


def _error(status: int, detail: str) -> web.Response:
    title = HTTPStatus(status).phrase
    body = {"errors": [{"status": str(status), "title": title, "detail": detail}]}
    return web.Response(status=status, text=json.dumps(body), content_type=_JSON)
