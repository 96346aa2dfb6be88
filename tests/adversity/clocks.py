"""Processes and servers whose clocks are shifted: all by one offset, or some by more."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from contract.calendar import DAY_US, SECOND_US, Month, month_at
from embedded.valkey import ValkeyServer
from runtime.clock import wall_clock
from tests.moved_clock import movable_environment, move_clock, moved_environment, remove_leftovers
from tests.system import System, eventually


@dataclass(frozen=True, slots=True)
class ShiftedClock:
    """The system's clock and so many seconds."""

    offset_seconds: float

    @classmethod
    def before(cls, instant_us: int, seconds: float) -> "ShiftedClock":
        """A clock that shows an instant so many seconds from now."""
        return cls(round((instant_us - wall_clock()) / SECOND_US - seconds, 3))

    def now_us(self) -> int:
        return wall_clock() + round(self.offset_seconds * SECOND_US)

    def environment(self, ahead_seconds: float = 0.0) -> dict[str, str]:
        """What gives a process this clock; or one that is ahead of it, or behind (negative)."""
        return moved_environment(self.offset_seconds + ahead_seconds)

    async def reaches(self, instant_us: int) -> None:
        """Waits until it shows an instant."""

        async def left_us() -> int:
            return instant_us - self.now_us()

        seconds = (instant_us - self.now_us()) / SECOND_US
        await eventually(left_us, lambda left: left <= 0, max(seconds, 0) + 1)


class ShiftedValkey(ValkeyServer):
    """A Valkey with a shifted clock, which can be moved further while it runs."""

    def __init__(
        self, data_dir: Path, clock: ShiftedClock, *, config: Mapping[str, str] | None = None
    ) -> None:
        self._clock = clock
        self._clock_file = data_dir.with_name(f"{data_dir.name}-clock")
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        self.move_clock(0)
        super().__init__(data_dir, config=config, env=movable_environment(self._clock_file))

    def _environment(self) -> dict[str, str]:
        # Where the whole suite's clock is moved, that would go before the file.
        return {name: value for name, value in super()._environment().items() if name != "FAKETIME"}

    def move_clock(self, seconds: float) -> None:
        """Sets its clock so many seconds ahead of the shifted one (negative: behind)."""
        move_clock(self._clock_file, self._clock.offset_seconds + seconds)


@contextmanager
def shifted_system(
    folder: Path,
    clock: ShiftedClock,
    zone: ZoneInfo,
    database_url: str,
) -> Iterator[tuple[System, ShiftedValkey]]:
    """A system with a Valkey of its own, all on one clock. All of it is gone at the end."""
    extra = {**clock.environment(), "CALENDAR_TIMEZONE": zone.key}
    try:
        with (
            ShiftedValkey(folder / "valkey", clock) as server,
            System(server.url, database_url, folder / "logs", extra) as system,
        ):
            yield system, server
    finally:
        remove_leftovers()


def next_month(zone: ZoneInfo, number: int | None = None) -> Month:
    """The month to be moved into the end of: this one or, with its number, the next such one.

    Never one that ends within a day, so that clocks are only ever moved forwards.
    """
    now_us = wall_clock()
    month = month_at(now_us + DAY_US, zone)
    while number not in (None, month.number):
        month = month.plus(1)
    return month
