"""The lines of a file after the first, as batches of sessions. Pure, but for who gives them."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from flusher.imports.csv_line import Layout
from flusher.imports.earlier_sessions import EarlierSessions, Kind
from flusher.imports.file_lines import Damaged
from flusher.rows.copy_format import copy_source
from flusher.rows.counts import Changes, Counts

BATCH: Final = 50_000


@dataclass(frozen=True, slots=True)
class ToStore:
    """What PostgreSQL gets of sessions: their rows, and what changes in the counts."""

    source: bytearray
    changes: Sequence[tuple[date, Changes]]
    kinds: Counter[Kind]


def to_store(rows: Sequence[bytes], kinds: Sequence[Kind]) -> ToStore:
    """The same of sessions that are new."""
    counts = Counts()
    counts.add_rows(rows)
    return ToStore(copy_source(sorted(rows)), counts.by_month(), Counter(kinds))


@dataclass(slots=True)
class LineBatch:
    """Some lines: each is a session, in the order of the file, or wrong."""

    keys: list[bytes] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """Of the lines whose sessions those are."""
    wrong: list[tuple[int, str]] = field(default_factory=list)
    """The numbers of the others, and why."""
    all: ToStore | None = None

    @property
    def last(self) -> int:
        """The number of its last line; 0 where it has none."""
        return max([*self.numbers[-1:], *(number for number, _ in self.wrong[-1:])], default=0)

    def to_store(self, places: Collection[int]) -> ToStore:
        """Of the sessions at some places. All of them are nearly always wanted, and ready."""
        if self.all is not None and len(places) == len(self.keys):
            return self.all
        return to_store([self.rows[at] for at in places], [self.kinds[at] for at in places])


def line_batches(
    lines: Iterable[str], layout: Layout, sessions: EarlierSessions
) -> Iterator[LineBatch]:
    """The lines that follow the first, so many together as `BATCH`; each is in one of them.

    Where the rest can't be read, the line where that begins is wrong, and the last.
    """
    batch, number, last = LineBatch(), 1, BATCH + 1
    remaining = iter(lines)
    while True:
        number += 1
        try:
            line = next(remaining)
            key, row, kind = sessions.session(layout.fields(line))
        except StopIteration:
            break
        except Damaged as why:
            batch.wrong.append((number, f"nothing can be read from here on: {why}"))
            break
        except ValueError as why:
            batch.wrong.append((number, str(why)))
        else:
            batch.keys.append(key)
            batch.rows.append(row)
            batch.kinds.append(kind)
            batch.numbers.append(number)
        if number == last:
            yield _ready(batch)
            batch, last = LineBatch(), last + BATCH
    yield _ready(batch)


def _ready(batch: LineBatch) -> LineBatch:
    # By whoever reads, while PostgreSQL writes the batch before.
    batch.all = to_store(batch.rows, batch.kinds)
    return batch


class WrongLines:
    """Tells which lines are wrong, and of those that follow each other with one cause the first and
    the last.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._first = self._last = 0
        self._why = ""

    def add(self, wrong: Iterable[tuple[int, str]], last: int) -> None:
        """Adds lines, in their order; `last` is the last of all lines so far."""
        for number, why in wrong:
            if number != self._last + 1 or why != self._why:
                self.end()
                self._first, self._why = number, why
            self._last = number
        if self._last != last:  # no later line follows it
            self.end()

    def end(self) -> None:
        """Tells what was not told."""
        if not self._why:
            return
        where = f"line {self._first}"
        if self._last > self._first:
            where = f"lines {self._first} to {self._last}"
        self._tell(f"{where}: {self._why}")
        self._why = ""
