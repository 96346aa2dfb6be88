"""How many entries are written at once, where some of them take too long. Pure."""

from math import inf
from typing import Final

from flusher.rows.entry import Entry

# So many in a row that took too long: it is the server that is slow.
_IN_VAIN: Final = 6
_UNLIMITED: Final = 1 << 17


class Portions:
    """Halved with each that takes too long, doubled with each that is stored."""

    def __init__(self) -> None:
        self._most: float = inf
        self._in_vain = 0
        self._stored = 0
        # Entries that alone took too long, and how many portions had been stored before.
        self._slow: dict[tuple[int, bytes], int] = {}

    def is_too_large(self, entries: int) -> bool:
        """Whether so many are not to be written at once."""
        return entries > self._most

    def are_tried_briefly(self, entries: int) -> bool:
        """Whether so many are a portion of what took too long; one alone has all the time."""
        return self._most < inf and entries > 1

    @property
    def are_in_vain(self) -> bool:
        """Whether none was stored lately: there is no point in going on at once."""
        return self._in_vain >= _IN_VAIN

    def took_too_long(self, entries: int) -> None:
        self._most = max(entries // 2, 1)
        self._in_vain += 1

    def is_hopeless(self, entry: Entry) -> bool:
        """Whether an entry that took too long alone did so before, and others were stored since."""
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
