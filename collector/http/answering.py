"""Has an endpoint answer a request, turns errors into answers, and counts both.

Both HTTP parsers end here (`connection.py`, `unusual.py`), so the same rules hold for both.
"""

import time
import traceback
from collections.abc import Callable

import structlog

from collector.http import answers
from collector.http.answers import Answer
from collector.http.common_headers import CommonHeaders
from collector.http.request import Request
from collector.http.routes import Route
from collector.request.headers import Headers
from contract.collector_metrics import CollectorMetrics
from contract.errors import Ignore, Reject, Retry
from contract.metric_kinds import Count

Send = Callable[[Answer, bytes], None]
"""Takes an answer, and header lines to add to it."""

_CODING = "content-encoding"

log = structlog.get_logger()


class Answering:
    """Answers requests and counts them."""

    def __init__(self, common: CommonHeaders, metrics: CollectorMetrics) -> None:
        self._common = common
        self._metrics = metrics
        self._requests: dict[tuple[str, int], Count] = {}

    def begin(self, route: Route, request: Request, send: Send) -> None:
        """Has a request answered, now or later, by one call of `send`. It never raises."""
        started = time.perf_counter()
        origin = request.headers.get("origin")

        def answered(end: Answer | Exception) -> None:
            try:
                answer = end if isinstance(end, Answer) else self.of_error(end)
                lines = self.count(route.name, answer.status, origin, started)
            except Exception as error:  # noqa: BLE001 - no other code would answer
                answer, lines = self.of_error(error), b""
            send(answer, lines)

        try:
            if _CODING in request.headers:
                check_coding(request.headers)
            route.endpoint(request, answered)
        except Exception as error:  # noqa: BLE001 - each has its answer
            answered(error)

    def refuse(self, error: Exception) -> tuple[Answer, bytes]:
        """The answer to bytes that are not a request, and its header lines."""
        answer = self.of_error(error)
        return answer, self.count("unknown", answer.status, None, time.perf_counter())

    def count(self, name: str, status: int, origin: str | None, started: float) -> bytes:
        """Counts an answer; returns the header lines that all answers have."""
        lines = self._common.lines(origin)
        counter = self._requests.get((name, status))
        if counter is None:  # looking up labels costs more than counting
            counter = self._requests[name, status] = self._metrics.requests.labels(name, status)
        counter.inc()
        self._metrics.request_seconds.observe(time.perf_counter() - started)
        return lines

    def of_error(self, error: BaseException) -> Answer:
        """The answer to a request that failed; it counts the reason."""
        match error:
            case Ignore():
                self._metrics.ignored.labels(error.reason).inc()
                return answers.ignored()
            case Reject():
                self._metrics.rejected.labels(error.reason).inc()
                return answers.rejected(error)
            case Retry():
                self._metrics.failed.labels(error.reason).inc()
                return answers.unavailable(error)
            case ConnectionError():
                self._metrics.rejected.labels("disconnected").inc()
                return answers.make(400)
            case _:  # a bug must not end the process
                self._metrics.failed.labels("fault").inc()
                _report(error)
                return answers.broken()


def check_coding(headers: Headers) -> None:
    """A body must have no content coding: a small compressed body may be large in memory.

    Raises:
        Reject: 415, it has a content coding.
    """
    for coding in headers.getall(_CODING, ()):
        if coding.strip().lower() not in {"", "identity"}:
            raise has_a_coding()


def has_a_coding() -> Reject:
    """The answer to a body with a content coding."""
    return Reject(415, "content_coding", "Send the body without a content coding.")


def _report(error: BaseException) -> None:
    # Where it happened, but not its message, which could quote the request.
    where = traceback.extract_tb(error.__traceback__)[-1]
    log.error(
        "a request could not be served; this is a fault in the collector",
        error=type(error).__name__,
        where=f"{where.filename}:{where.lineno}",
    )
