"""The lines of a file after the first, as batches of sessions. Pure, but for who gives them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from flusher.imports.csv_line import Layout
from flusher.imports.earlier_sessions import EarlierSession, EarlierSessions
from flusher.imports.file_lines import Damaged

BATCH: Final = 10_000


@dataclass(slots=True)
class LineBatch:
    """Some lines: each is one of `sessions`, with its number in `numbers`, or one of `wrong`."""

    sessions: list[EarlierSession] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    wrong: list[tuple[int, str]] = field(default_factory=list)
    """Their numbers, and why."""

    @property
    def last(self) -> int:
        """The number of its last line; 0 where it has none."""
        return max([*self.numbers[-1:], *(number for number, _ in self.wrong[-1:])], default=0)


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
            session = sessions.session(layout.fields(line))
        except StopIteration:
            break
        except Damaged as why:
            batch.wrong.append((number, f"nothing can be read from here on: {why}"))
            break
        except ValueError as why:
            batch.wrong.append((number, str(why)))
        else:
            batch.sessions.append(session)
            batch.numbers.append(number)
        if number == last:
            yield batch
            batch, last = LineBatch(), last + BATCH
    yield batch


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
