"""Calls a request's endpoint, turns errors into answers, and counts both.

Requests of both HTTP parsers (`connection.py`, `unusual.py`) come here, so they follow the same
rules.
"""

import time
import traceback
from collections.abc import Callable
from email.utils import formatdate

import structlog

from collector.http import answers
from collector.http.answers import Answer
from collector.http.routes import Request, Route
from collector.request.headers import Headers
from contract.calendar import SECOND_US
from contract.collector_metrics import CollectorMetrics
from contract.errors import Ignore, Reject, Retry
from contract.metric_kinds import Count
from runtime.clock import Clock

Send = Callable[[Answer, bytes], None]
"""Sends an answer, with more header lines."""

_CODING = "content-encoding"
_ORIGINS = 1024

log = structlog.get_logger()


class CommonHeaders:
    """The header lines that every answer has: `Date`, and for a page those of CORS.

    They are built once a second for each origin.
    """

    def __init__(self, clock: Clock, allows_origin: Callable[[str], bool]) -> None:
        """`allows_origin`: whether pages of an origin may read answers."""
        self._clock = clock
        self._allows_origin = allows_origin
        self._second = 0
        self._lines: dict[str | None, bytes] = {}

    def lines(self, origin: str | None) -> bytes:
        """The lines for a request with this `Origin`, or without one."""
        now = self._clock() // SECOND_US
        if now != self._second or len(self._lines) > _ORIGINS:
            self._second = now
            self._lines.clear()
        lines = self._lines.get(origin)
        if lines is None:
            lines = f"Date: {formatdate(now, usegmt=True)}\r\n".encode()
            if origin is not None and self._allows_origin(origin):
                lines += answers.allow_origin(origin)
            self._lines[origin] = lines
        return lines


class Answering:
    """Answers requests and counts them."""

    def __init__(self, common: CommonHeaders, metrics: CollectorMetrics) -> None:
        self._common = common
        self._metrics = metrics
        self._requests: dict[tuple[str, int], Count] = {}

    def begin(self, route: Route, request: Request, send: Send) -> None:
        """Calls the endpoint. `send` is called once with the answer, now or later. Never raises."""
        started = time.perf_counter()
        origin = request.headers.get("origin")

        def respond(result: Answer | Exception) -> None:
            try:
                answer = result if isinstance(result, Answer) else self.of_error(result)
                lines = self.count(route.name, answer.status, origin, started)
            except Exception as error:  # noqa: BLE001 - nothing else would answer
                answer, lines = self.of_error(error), b""
            send(answer, lines)

        try:
            if _CODING in request.headers:
                check_coding(request.headers)
            route.endpoint(request, respond)
        except Exception as error:  # noqa: BLE001 - each becomes an answer
            respond(error)

    def refuse(self, error: Exception) -> tuple[Answer, bytes]:
        """The answer to bytes that are not a request, and its header lines."""
        answer = self.of_error(error)
        return answer, self.count("unknown", answer.status, None, time.perf_counter())

    def count(self, name: str, status: int, origin: str | None, started: float) -> bytes:
        """Counts an answer, and returns the header lines that every answer has."""
        lines = self._common.lines(origin)
        counter = self._requests.get((name, status))
        if counter is None:  # cached: `labels` costs more than counting
            counter = self._requests[name, status] = self._metrics.requests.labels(name, status)
        counter.inc()
        self._metrics.request_seconds.observe(time.perf_counter() - started)
        return lines

    def of_error(self, error: BaseException) -> Answer:
        """The answer to a request that failed. Its reason is counted."""
        match error:
            case Ignore():
                self._metrics.ignored.labels(error.reason).inc()
                return answers.IGNORED
            case Reject():
                self._metrics.rejected.labels(error.reason).inc()
                return answers.rejected(error)
            case Retry():
                self._metrics.failed.labels(error.reason).inc()
                return answers.UNAVAILABLE
            case ConnectionError():
                self._metrics.rejected.labels("disconnected").inc()
                return answers.make(400)
            case _:  # a bug must not end the process
                self._metrics.failed.labels("fault").inc()
                _report(error)
                return answers.BROKEN


def check_coding(headers: Headers) -> None:
    """Raises Reject (415) for a content coding: a small compressed body may be large in memory."""
    for coding in headers.getall(_CODING, ()):
        if coding.strip().lower() not in {"", "identity"}:
            raise has_a_coding()


def has_a_coding() -> Reject:
    return Reject(415, "content_coding", "Send the body without a content coding.")


def _report(error: BaseException) -> None:
    # Without the error's message, which could quote the request.
    where = traceback.extract_tb(error.__traceback__)[-1]
    log.error(
        "a request could not be served; this is a fault in the collector",
        error=type(error).__name__,
        where=f"{where.filename}:{where.lineno}",
    )
