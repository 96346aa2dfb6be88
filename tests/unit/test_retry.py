"""runtime/retry.py: errors that may pass are retried for a limited time, others are not."""

import pytest

from contract.errors import Misconfigured, Retry
from runtime.retry import Backoff, retry

AWAY = Retry("redis_away", "it is away")


def least() -> float:
    return 0.0


class Sleeps:
    """A sleep that takes no time and records how long it would have been."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


class Attempts:
    """Raises each error in turn, then returns the number of attempts."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.made = 0

    async def __call__(self) -> int:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.made


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(0.1, 5.0, least)
    assert [round(backoff.pause(n), 1) for n in (1, 2, 3, 6, 7, 10_000)] == [
        *(0.1, 0.2, 0.4, 3.2, 5.0, 5.0)
    ]


def test_a_random_part_shortens_a_pause_by_at_most_a_quarter() -> None:
    assert Backoff(1.0, 8.0, lambda: 1.0).pause(4) == 6.0
    assert {6.0 <= Backoff(1.0, 8.0).pause(4) <= 8.0 for _ in range(1000)} == {True}


async def test_an_error_that_passes_is_retried() -> None:
    sleeps, attempts = Sleeps(), Attempts(AWAY, AWAY)
    assert await retry(attempts, Retry, Backoff(1, 9, least), within=10, sleep=sleeps) == 3
    assert sleeps.slept == [1, 2]


async def test_when_the_time_is_over_the_last_error_is_raised() -> None:
    sleeps, attempts = Sleeps(), Attempts(*[AWAY] * 9, Misconfigured("A", "never reached", "a"))
    with pytest.raises(Retry, match="it is away"):
        await retry(attempts, Retry, Backoff(1, 4, least), within=7, sleep=sleeps)
    assert sleeps.slept == [1, 2, 4]
    assert attempts.made == 4


async def test_an_error_that_does_not_pass_is_raised_at_once() -> None:
    sleeps, attempts = Sleeps(), Attempts(Misconfigured("A", "is wrong", "a"))
    with pytest.raises(Misconfigured):
        await retry(attempts, Retry, Backoff(1, 1), within=9, sleep=sleeps)
    assert sleeps.slept == []
