"""What a benchmark is: one module, one `measure`, one `Result`.

`python -m bench NAME` imports the module `bench.speed.NAME`, calls its

    async def measure(run: Run) -> Result

and saves what it returns. A `measure` measures ours, its baselines and its limit in turns, round
after round (`Run.rounds`), so that what disturbs a shared machine disturbs all of them; says what
it is doing through `run.say(...)`; checks what it counted (rows, entries) before it gives a
figure, and raises `Unsound` where the check fails; and ends all that it started.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


class Unsound(Exception):
    """What was measured does not hold: rows are missing, or the generator was the limit."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a benchmark is given."""

    folder: Path  # empty, its own, gone afterwards
    rounds: int  # how often each contender has its turn
    seconds: float  # how long a turn takes
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

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def most(self) -> float:
        return max(self.values)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table of what is to be reached."""

    what: str
    against: str
    reach: str  # "≥ 0.85", as it was set
    reached: float | None  # None: reported in `shown` only
    shown: str
    holds: bool | None  # None: nothing was set


@dataclass(frozen=True, slots=True)
class Result:
    """What a benchmark found out."""

    name: str
    title: str
    series: tuple[Series, ...]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()
    # The contenders' command lines or designs, in a sentence each.
    contenders: dict[str, str] = field(default_factory=dict)


def ratio(ours: Sequence[float], other: Sequence[float]) -> Series:
    """Ours as a share of the other's, round by round: what disturbed a round disturbed both."""
    values = tuple(one / two for one, two in zip(ours, other, strict=True))
    return Series("ours", "ratio", values)


def at_least(what: str, against: str, reach: float, ratios: Series, unit: str = "") -> Figure:
    """A figure that must not be below `reach`."""
    return _figure(what, against, f"≥ {reach:g}{unit}", ratios, unit, holds=ratios.median >= reach)


def at_most(what: str, against: str, reach: float, ratios: Series, unit: str = "") -> Figure:
    """A figure that must not be above `reach`."""
    return _figure(what, against, f"≤ {reach:g}{unit}", ratios, unit, holds=ratios.median <= reach)


def _figure(
    what: str, against: str, reach: str, ratios: Series, unit: str, *, holds: bool
) -> Figure:
    shown = f"{number(ratios.median)}{unit} ({number(ratios.least)} to {number(ratios.most)})"
    return Figure(what, against, reach, ratios.median, shown, holds)


def number(value: float) -> str:
    """A number with the digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
