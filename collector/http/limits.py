"""How large a request may be before its body, and what is answered to one that is larger."""

from typing import Final

from contract.errors import Reject

MAX_LINE: Final = 16 * 1024  # the request's, or a header's
MAX_HEAD: Final = 32 * 1024  # all of them together
MAX_HEADERS: Final = 64

TOO_LARGE: Final = Reject(
    431, "headers_too_large", "The headers are larger than 32 KiB, or a line than 16 KiB."
)
