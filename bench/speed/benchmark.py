"""The interface of a benchmark: one module, one `measure`, one `Result`.

`python -m bench NAME` calls `bench.speed.NAME.measure(run)` and saves what it returns. A `measure`
runs ours and its baselines in turns, round after round, so that a disturbance of a shared machine
disturbs all of them. It says what it is doing (`run.say`), checks rows or entries before it gives a
figure, raises `Unsound` where a check fails, and ends every process that it has started.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


class Unsound(Exception):
    """The measurement is not valid: rows are missing, or the generator was the limit."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a benchmark is given."""

    folder: Path  # empty, its own, removed afterwards
    rounds: int  # how many turns each contender has
    seconds: float  # how long a turn takes
    size: int  # how many sessions, rows or lines, where a benchmark has a fixed number
    say: Callable[[str], None]  # shows what is being done


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity of one contender, a value a round."""

    contender: str
    quantity: str  # with its unit: "requests/s"
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table of aims."""

    what: str
    against: str
    reach: str  # "≥ 0.85"
    reached: float
    shown: str
    holds: bool | None  # None: there is no aim


@dataclass(frozen=True, slots=True)
class Result:
    """What a benchmark measured."""

    title: str
    series: tuple[Series, ...]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()
    contenders: dict[str, str] = field(default_factory=dict)  # what each is, in a sentence


def ratio(ours: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    """Ours by the other's, round by round: a disturbed round disturbed both."""
    return tuple(one / two for one, two in zip(ours, other, strict=True))


def at_least(what: str, against: str, aim: float, values: Sequence[float]) -> Figure:
    """A figure that must not be below its aim."""
    median = statistics.median(values)
    return Figure(what, against, f"≥ {aim:g}", median, spread(values), median >= aim)


def at_most(what: str, against: str, aim: float, values: Sequence[float], unit: str = "") -> Figure:
    """A figure that must not be above its aim."""
    median = statistics.median(values)
    shown = spread(values, unit)
    return Figure(what, against, f"≤ {aim:g}{unit}", median, shown, median <= aim)


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
