"""How a command begins and ends: the event loop, the errors it may end with, the exit code."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import uvloop

from contract.errors import DeadLetter, Misconfigured, Retry


def run_command(main: Coroutine[Any, Any, int]) -> int:
    """Runs a command to its end and returns its exit code: 0 success, 2 misconfigured, 1 otherwise.

    What an operator can mend is one line on standard error, not a traceback.
    """
    try:
        return uvloop.run(main)
    except Misconfigured as error:
        return _fail(error, 2)
    except Retry as error:
        return _fail(error, 1)
    except DeadLetter as error:
        return _fail(f"what was to be stored is refused: {error} ({error.reason})", 1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _fail("interrupted", 1)


def _fail(reason: object, code: int) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return code
