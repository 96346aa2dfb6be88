"""Structured logs on standard error: one event a line, as text for people or JSON for machines.

Nothing personal is ever passed to a logger. Exceptions are logged by type and by our own words,
never by their arguments where those could quote a request.
"""

import logging
import sys

import structlog

from contract.settings import LOG_FORMAT, LOG_LEVEL, Environment


def configure_logging(environment: Environment) -> None:
    """Sets up structlog for this process.

    Raises:
        Misconfigured: LOG_LEVEL or LOG_FORMAT is wrong.
    """
    level = logging.getLevelNamesMapping()[LOG_LEVEL.read(environment).upper()]
    as_json = LOG_FORMAT.read(environment) == "json"
    renderer = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard module. Below warning they say nothing an operator needs,
    # and asyncio's and aiohttp's debug lines can quote a request.
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr, force=True)
