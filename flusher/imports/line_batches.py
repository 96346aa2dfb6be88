"""The lines of a file after the first, as batches of sessions. Pure."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import count
from typing import Final

from flusher.imports.csv_line import Layout
from flusher.imports.earlier_sessions import EarlierSessions, Kind
from flusher.imports.file_lines import Unreadable
from flusher.rows.copy_format import copy_source
from flusher.rows.counts import Changes, Counts

BATCH: Final = 50_000


@dataclass(frozen=True, slots=True)
class ToStore:
    """What is stored for some sessions: their rows, what changes in the counts, and how many
    sessions each month has.
    """

    source: bytearray
    changes: Sequence[tuple[date, Changes]]
    months: Counter[date]


@dataclass(slots=True)
class LineBatch:
    """Some lines. Each is either a session, in the order of the file, or wrong."""

    keys: list[bytes] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """The line numbers of the sessions."""
    wrong: list[tuple[int, str]] = field(default_factory=list)
    """The line numbers of the other lines, and what is wrong."""
    _all: ToStore | None = field(default=None, init=False)

    @property
    def last(self) -> int:
        """The number of its last line; 0 if it has no lines."""
        return max(self.numbers[-1:] + [number for number, _ in self.wrong[-1:]], default=0)

    def prepare(self) -> None:
        """Prepares `to_store` for all sessions, which is the usual case. The thread that reads does
        this while PostgreSQL writes the batch before.
        """
        self._all = _to_store(self.rows, self.kinds)

    def to_store(self, places: Collection[int]) -> ToStore:
        """What is stored for the sessions at these places."""
        if self._all is not None and len(places) == len(self.keys):
            return self._all
        return _to_store([self.rows[at] for at in places], [self.kinds[at] for at in places])


def _to_store(rows: Sequence[bytes], kinds: Sequence[Kind]) -> ToStore:
    counts = Counts()
    counts.add_rows(rows)
    months: Counter[date] = Counter()
    for kind, number in Counter(kinds).items():
        months[kind.months[0].first_day] += number
    return ToStore(copy_source(sorted(rows)), counts.by_month(), months)


def line_batches(
    lines: Iterable[str], layout: Layout, sessions: EarlierSessions
) -> Iterator[LineBatch]:
    """The lines after the first, `BATCH` lines in each batch but the last.

    If the rest can't be read, the line where it begins is wrong, and is the last one.
    """
    batch = LineBatch()
    remaining = iter(lines)
    for number in count(2):
        try:
            line = next(remaining)
            key, row, kind = sessions.session(layout.fields(line))
        except StopIteration:
            break
        except Unreadable as why:
            batch.wrong.append((number, f"nothing can be read from here on: {why}"))
            break
        except ValueError as why:
            batch.wrong.append((number, str(why)))
        else:
            batch.keys.append(key)
            batch.rows.append(row)
            batch.kinds.append(kind)
            batch.numbers.append(number)
        if len(batch.numbers) + len(batch.wrong) == BATCH:
            batch.prepare()
            yield batch
            batch = LineBatch()
    batch.prepare()
    yield batch


class WrongLines:
    """Reports wrong lines. Consecutive lines with the same cause are reported together."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._first = self._last = 0
        self._why = ""

    def add(self, wrong: Iterable[tuple[int, str]], last: int) -> None:
        """Adds wrong lines in their order; `last` is the number of the last line read so far."""
        for number, why in wrong:
            if number != self._last + 1 or why != self._why:
                self.end()
                self._first, self._why = number, why
            self._last = number
        if self._last != last:  # the next wrong line does not follow directly
            self.end()

    def end(self) -> None:
        """Reports the lines that are not reported yet."""
        if not self._why:
            return
        where = f"line {self._first}"
        if self._last > self._first:
            where = f"lines {self._first} to {self._last}"
        self._report(f"{where}: {self._why}")
        self._why = ""
