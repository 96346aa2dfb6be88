"""The header lines that every answer has: `Date`, and for a page those of CORS."""

from collections.abc import Callable
from email.utils import formatdate

from collector.http import answers
from contract.calendar import SECOND_US
from runtime.clock import Clock

_ORIGINS = 1024


class CommonHeaders:
    """Builds them once a second for each origin."""

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
