"""How a program starts and ends: the event loop, its last errors, the exit code."""

import argparse
import asyncio
import os
import sys
import traceback
from collections.abc import Callable, Coroutine
from errno import EDQUOT, EFBIG, EIO, ENOSPC, EPIPE
from io import TextIOWrapper
from typing import Any, Final

import structlog
import uvloop

from contract.errors import DeadLetter, Misconfigured, NotAdmitted, Retry
from contract.setting import Environment
from contract.version import VERSION
from runtime.clock import Clock
from runtime.logs import configure_logging, is_json
from runtime.restart import Restart

# Those of the servers are a Retry.
_OF_OUTPUT: Final = (EPIPE, ENOSPC, EDQUOT, EFBIG, EIO)
_EXPECTED: Final = (Misconfigured, Retry, KeyboardInterrupt, asyncio.CancelledError)


def add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=VERSION)


def run_command(main: Coroutine[Any, Any, int]) -> int:
    """Runs a command and returns its exit code: 0 success, 2 misconfigured, 1 otherwise.

    An error that an operator can correct is one line on standard error, without a traceback.
    """
    if isinstance(sys.stdout, TextIOWrapper):  # its encoding may lack characters
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = uvloop.run(main)
        print(end="", flush=True)
    except OSError as error:
        if error.errno not in _OF_OUTPUT:
            raise
        # Python flushes standard output when it exits, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == EPIPE:  # the reader, such as `head`, has ended
            return 1
        return _say(f"the output can't be written: {error.strerror}", 1)
    except DeadLetter as error:
        return _say(f"the data is refused: {error} ({error.reason})", 1)
    except _EXPECTED as error:
        return _say(*_end(error))
    else:
        return code


def run_process(
    name: str,
    main: Callable[[Environment, Clock], Coroutine[Any, Any, int | Restart]],
    environment: Environment,
    clock: Clock,
) -> int:
    """Runs a process and returns its exit code, or restarts it in place if it returns Restart.

    The last line, too, has the format that LOG_FORMAT names. For a bug it shows the error's type
    and where it happened, but not its message, which could quote a request.
    """
    try:
        configure_logging(environment, name)
        end = uvloop.run(main(environment, clock))
        return end.begin() if isinstance(end, Restart) else end
    except _EXPECTED as error:
        why, code = _end(error)
        if not is_json(environment):
            return _say(why, code)
        structlog.get_logger().critical("ended by an error", why=why, exit_code=code)
        return code
    except Exception as error:  # noqa: BLE001 - all other errors are bugs
        structlog.get_logger().critical("ended by a bug", exit_code=1, **_describe(error))
        return 1


def _end(error: BaseException) -> tuple[str, int]:
    """What is said at the end, and the exit code."""
    interrupted = isinstance(error, KeyboardInterrupt | asyncio.CancelledError)
    code = 2 if isinstance(error, Misconfigured | NotAdmitted) else 1
    return "interrupted" if interrupted else str(error), code


def _say(why: str, code: int) -> int:
    print(f"error: {why}", file=sys.stderr)
    return code


def _describe(error: BaseException) -> dict[str, Any]:
    """The error's type, and its calls, the outermost first. Of a group: its first error's."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    calls = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "traceback": [f"{call.filename}:{call.lineno} {call.name}" for call in calls],
    }
