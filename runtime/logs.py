"""Structured logs on standard error: one event a line, as text for people or JSON for machines.

Nothing personal is ever passed to a logger. Of an exception we log the type and our own text, but
no arguments that could quote a request.
"""

import logging
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, Final

import structlog

from contract.errors import Misconfigured
from contract.setting import Environment, Setting
from contract.settings import LOG_FORMAT, LOG_LEVEL
from contract.version import VERSION

REPEATED_SECONDS: Final = 10.0
_MOST_REMEMBERED: Final = 500
# Fields that differ between equal lines.
_IGNORED: Final = ("entry", "timestamp")


def configure_logging(environment: Environment, process: str) -> None:
    """Sets up structlog for this process. Each JSON line has its name.

    Raises:
        Misconfigured: LOG_LEVEL or LOG_FORMAT is wrong. Logging works nevertheless.
    """
    level, wrong = logging.INFO, None
    try:
        level = logging.getLevelNamesMapping()[LOG_LEVEL.read(environment).upper()]
        LOG_FORMAT.read(environment)
    except Misconfigured as error:
        wrong = error
    renderers = (
        (lambda _, __, line: line | {"process": process}, structlog.processors.JSONRenderer())
        if is_json(environment)
        else (structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            RepetitionLimit(),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries use the standard module. Their lines below warning are of no use to an operator.
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[_WithoutMessage()], force=True)
    if wrong is not None:
        raise wrong


def is_json(environment: Environment) -> bool:
    """Whether lines are JSON. If LOG_FORMAT is wrong, they are text."""
    return LOG_FORMAT.show(environment).lower() == "json"


def log_start(process: str, settings: Iterable[Setting[Any]], environment: Environment) -> None:
    """Logs the start of a process: its release, and the settings in force, without secrets."""
    shown = {setting.name: setting.show(environment) for setting in settings}
    structlog.get_logger().info(f"{process} starts", version=VERSION, **shown)


class _WithoutMessage(logging.Handler):
    """Logs a library's line in our form: where it comes from, and the error's type.

    It omits the messages of the line and of the error, because aiohttp quotes addresses and
    malformed requests, and asyncio quotes unhandled exceptions.
    """

    def emit(self, record: logging.LogRecord) -> None:
        facts = {"library": record.name, "line": f"{record.filename}:{record.lineno}"}
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            facts["error"] = type(error).__name__
            if places := traceback.extract_tb(error.__traceback__):
                facts["where"] = f"{places[-1].filename}:{places[-1].lineno}"
        structlog.get_logger().log(record.levelno, "a library reports a fault", **facts)


class RepetitionLimit:
    """A structlog processor: writes the same warning or error once in `REPEATED_SECONDS` seconds.

    Lines are the same if their texts are; numbers may differ. The next line that is written has
    `repeated`: how many were not written.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # By its texts: when a line was written last, and how often it was not written since.
        self._lines: dict[tuple[str, ...], tuple[float, int]] = {}

    def __call__(
        self, _: Any, method: str, line: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        if method not in ("warning", "error", "critical"):
            return line
        words = tuple(
            text for name, text in line.items() if isinstance(text, str) and name not in _IGNORED
        )
        now = self._now()
        written, repeated = self._lines.get(words, (-math.inf, 0))
        if now - written < REPEATED_SECONDS:
            self._lines[words] = written, repeated + 1
            raise structlog.DropEvent
        if len(self._lines) >= _MOST_REMEMBERED:
            self._lines.clear()
        self._lines[words] = now, 0
        if repeated:
            line["repeated"] = repeated
        return line
