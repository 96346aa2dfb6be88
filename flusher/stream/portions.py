"""How many entries are written at once, after some took too long. Pure."""

from math import inf
from typing import Final

from flusher.rows.batch import Entry

# After so many portions in a row that took too long, the server is slow, and not the entries.
_IN_VAIN: Final = 6
_UNLIMITED: Final = 1 << 17


class Portions:
    """The size of a portion: halved when one takes too long, doubled when one is stored."""

    def __init__(self) -> None:
        self._most: float = inf
        self._in_vain = 0
        self._stored = 0
        # Entries that took too long alone, and how many portions had been stored before.
        self._slow: dict[tuple[int, bytes], int] = {}

    def is_too_large(self, entries: int) -> bool:
        """Whether so many are too many for one portion."""
        return entries > self._most

    def are_tried_briefly(self, entries: int) -> bool:
        """Whether so many get only a part of the time. A single entry always gets all of it."""
        return self._most < inf and entries > 1

    @property
    def are_in_vain(self) -> bool:
        """Whether so many took too long in a row that it is better to wait."""
        return self._in_vain >= _IN_VAIN

    def took_too_long(self, entries: int) -> None:
        self._most = max(entries // 2, 1)
        self._in_vain += 1

    def is_hopeless(self, entry: Entry) -> bool:
        """Called for an entry that took too long alone: whether it did so before, and other
        portions were stored in between.
        """
        key = entry.shard, entry.id
        stored_before = self._slow.setdefault(key, self._stored)
        if stored_before == self._stored:
            return False
        del self._slow[key]
        return True

    def stored(self, entries: int) -> None:
        self._in_vain = 0
        self._stored += 1
        if entries * 2 > self._most:
            self._most = self._most * 2 if self._most < _UNLIMITED else inf
        if self._most == inf:
            self._slow.clear()
