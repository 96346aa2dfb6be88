"""The limits of a request's headers, and the errors for requests that exceed a limit."""

from typing import Final

from contract.errors import Reject, Retry

MAX_LINE: Final = 16 * 1024  # the request line, or a header's line
MAX_HEAD: Final = 32 * 1024  # all of them together
MAX_HEADERS: Final = 256  # so that their number costs no more time than their size

# These are no constants: once raised, an exception keeps the request, with its address, in memory.


def headers_too_large() -> Reject:
    which = f"More than 32 KiB of headers, 16 KiB in one line, or {MAX_HEADERS} lines"
    return Reject(431, "headers_too_large", f"{which} is too large.")


def overload() -> Retry:
    return Retry("overload", "too many requests are incomplete")
