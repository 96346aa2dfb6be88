"""The routes of the demo page: its files, its user's token, and a session's row."""

import json
import uuid
from collections.abc import Sequence
from functools import partial
from importlib.resources import files

import asyncpg
from aiohttp import hdrs, web

from collector.http.routes import Page, pages_at
from collector.request.body import parse_session_id
from contract.collector_metrics import CollectorMetrics
from contract.errors import Retry

_FOLDER = files("collector.http.demo")
_STORED_SESSION = _FOLDER.joinpath("stored_session.sql").read_text("utf-8")
_TYPES = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
_ANSWER_SECONDS = 5.0
_HEADERS = {
    hdrs.CACHE_CONTROL: "no-store",
    # Nothing inline, and nothing from other hosts.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class DemoPages:
    """The demo's routes, and their handlers."""

    def __init__(self, database_url: str, token: str, metrics: CollectorMetrics) -> None:
        """`token`: the demo user's, or the empty string."""
        self._database_url = database_url
        self._token = token
        self._metrics = metrics
        self._files = {name: _FOLDER.joinpath(name).read_text("utf-8") for name in _TYPES}

    @property
    def routes(self) -> Sequence[Page]:
        return [
            *pages_at("/demo", partial(self._file, "page.html")),
            *pages_at("/demo/page.css", partial(self._file, "page.css")),
            *pages_at("/demo/page.js", partial(self._file, "page.js")),
            *pages_at("/demo/token", self._give_token),
            *pages_at("/demo/sessions/{}", self._show_session),
        ]

    async def _file(self, name: str, _: web.BaseRequest, __: str) -> web.Response:
        return self._answer(self._files[name], _TYPES[name])

    async def _give_token(self, _: web.BaseRequest, __: str) -> web.Response:
        return self._answer(json.dumps({"data": {"token": self._token or None}}))

    async def _show_session(self, _: web.BaseRequest, named: str) -> web.Response:
        """`{"data": null}`, or `{"data": {"row": {…}, "month": {…}}}` with the columns as keys.

        Raises:
            Reject: 400, the id is not a UUID.
            Retry: PostgreSQL does not answer.
        """
        session_id = uuid.UUID(bytes=parse_session_id(named))
        try:
            connection = await asyncpg.connect(
                self._database_url,
                timeout=_ANSWER_SECONDS,
                command_timeout=_ANSWER_SECONDS,
                server_settings={"default_transaction_read_only": "on"},
            )
            try:
                stored = await connection.fetchval(_STORED_SESSION, session_id)
            finally:
                await connection.close(timeout=_ANSWER_SECONDS)
        except (
            OSError,
            TimeoutError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ):
            raise Retry("demo_database", "PostgreSQL did not answer the demo page") from None
        return self._answer(f'{{"data":{stored or "null"}}}')

    def _answer(self, text: str, content_type: str = "application/json") -> web.Response:
        self._metrics.ignored.labels("page").inc()
        return web.Response(text=text, content_type=content_type, charset="utf-8", headers=_HEADERS)
