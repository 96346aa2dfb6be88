"""Limits how often the same log line is written."""

import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

import structlog

SECONDS: Final = 10.0
_MOST_REMEMBERED: Final = 500
# Fields that differ between equal lines.
_IGNORED: Final = ("entry", "timestamp")


class RepetitionLimit:
    """A structlog processor that writes the same warning or error once in `SECONDS` seconds.

    Lines are the same if their texts are; numbers may differ. The next line that is written has
    `repeated`: how many were not written.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._written: dict[tuple[str, ...], float] = {}
        self._held_back: dict[tuple[str, ...], int] = {}

    def __call__(
        self, _: Any, method: str, line: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        if method not in ("warning", "error", "critical"):
            return line
        words = _words(line)
        now = self._now()
        if now - self._written.get(words, -SECONDS) < SECONDS:
            self._held_back[words] = self._held_back.get(words, 0) + 1
            raise structlog.DropEvent
        if len(self._written) >= _MOST_REMEMBERED:
            self._written.clear()
            self._held_back.clear()
        self._written[words] = now
        if repeated := self._held_back.pop(words, 0):
            line["repeated"] = repeated
        return line


def _words(line: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        value for name, value in line.items() if isinstance(value, str) and name not in _IGNORED
    )
