"""The interface of a benchmark: one module, one `measure`, one `Result`.

`python -m bench NAME` calls `bench.speed.NAME.measure(run)` and saves what it returns. A `measure`
runs ours and its baselines in turns, so that a disturbance of a shared machine disturbs all of
them. It shows its progress (`run.say`), checks rows or entries before it reports a figure, raises
`Unsound` where a check fails, and starts every process on `run.stack`.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path


class Unsound(Exception):
    """The measurement is not valid: rows are missing, or the generator was the limit."""


@dataclass(frozen=True, slots=True)
class Run:
    """The arguments of a benchmark."""

    folder: Path  # empty, its own, removed afterwards
    rounds: int  # how many turns each contender has
    seconds: float  # how long a turn takes
    size: int  # the number of sessions, rows or lines, if the benchmark has a fixed number
    say: Callable[[str], None]  # shows the progress
    stack: AsyncExitStack  # closed after `measure`: it ends what was started

    def turns(
        self, contenders: Iterable[str], *, warm_up: bool = False
    ) -> Iterator[tuple[int, str]]:
        """The number of the round and a contender, for each turn. The first contender changes.

        `warm_up` adds a round 0, which must not be counted: in it the crawler filter examines each
        User-Agent for the first time.
        """
        names = list(contenders)
        for number in range(0 if warm_up else 1, self.rounds + 1):
            first = (number - 1) % len(names)
            for name in (*names[first:], *names[:first]):
                self.say(f"round {number} of {self.rounds}, {name}")
                yield number, name


@dataclass(frozen=True, slots=True)
class Measurements:
    """Values by quantity (with its unit: "requests/s") and contender, one for each turn."""

    by_quantity: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, contender: str, quantities: Mapping[str, float]) -> None:
        """Adds what was measured in a turn, by quantity."""
        for quantity, value in quantities.items():
            self.by_quantity.setdefault(quantity, {}).setdefault(contender, []).append(value)

    def of(self, contender: str, quantity: str) -> list[float]:
        return self.by_quantity[quantity][contender]

    def ratios(self, quantity: str, contender: str, other: str) -> list[float]:
        """The contender's value by the other's, round by round: a disturbance disturbs both."""
        pairs = zip(self.of(contender, quantity), self.of(other, quantity), strict=True)
        return [one / two for one, two in pairs]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table of aims."""

    what: str
    against: str
    reach: str  # "≥ 0.85"
    reached: float
    shown: str
    holds: bool | None  # None: it has no aim


@dataclass(frozen=True, slots=True)
class Result:
    """The measurements of a benchmark, and their comparison with its aims."""

    title: str
    measured: Measurements
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()


def at_least(what: str, against: str, aim: float, values: Sequence[float]) -> Figure:
    """A figure that must not be below its aim."""
    median = statistics.median(values)
    return Figure(what, against, f"≥ {aim:g}", median, spread(values), median >= aim)


def at_most(what: str, against: str, aim: float, values: Sequence[float], unit: str = "") -> Figure:
    """A figure that must not be above its aim."""
    median = statistics.median(values)
    reach = f"≤ {aim:g}{unit}"
    return Figure(what, against, reach, median, spread(values, unit), median <= aim)


def reported(what: str, against: str, values: Sequence[float]) -> Figure:
    """A figure without an aim."""
    return Figure(what, against, "reported", statistics.median(values), spread(values), None)


def spread(values: Sequence[float], unit: str = "") -> str:
    """The median, with the least and the most if there are several values."""
    middle = number(statistics.median(values)) + unit
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    """A number with its significant digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
