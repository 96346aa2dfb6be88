"""runtime/retry.py: what may pass is tried again, for so long; all else ends at once."""

import pytest

from contract.errors import Misconfigured, Retry
from runtime.retry import Backoff, retry

AWAY = Retry("redis_away", "it is away")


def least() -> float:
    return 0.0


class Sleeps:
    """A sleep that takes no time, and knows how long it would have been."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


class Attempts:
    """Fails by each error in turn, then gives how many attempts there were."""

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


def test_chance_shortens_a_pause_by_a_quarter_at_the_most() -> None:
    assert Backoff(1.0, 8.0, lambda: 1.0).pause(4) == 6.0
    assert {6.0 <= Backoff(1.0, 8.0).pause(4) <= 8.0 for _ in range(1000)} == {True}


async def test_what_passes_is_tried_again_and_its_result_given() -> None:
    sleeps, attempts = Sleeps(), Attempts(AWAY, AWAY)
    assert await retry(attempts, Retry, Backoff(1, 9, least), within=10, sleep=sleeps) == 3
    assert sleeps.slept == [1, 2]


async def test_it_ends_with_the_last_error_when_the_pauses_are_used_up() -> None:
    sleeps, attempts = Sleeps(), Attempts(*[AWAY] * 9, Misconfigured("A", "never reached", "a"))
    with pytest.raises(Retry, match="it is away"):
        await retry(attempts, Retry, Backoff(1, 4, least), within=7, sleep=sleeps)
    assert sleeps.slept == [1, 2, 4]
    assert attempts.made == 4


async def test_what_does_not_pass_ends_it_at_once() -> None:
    sleeps = Sleeps()
    with pytest.raises(Misconfigured):
        await retry(
            Attempts(Misconfigured("A", "is wrong", "a")),
            Retry,
            Backoff(1, 1),
            within=9,
            sleep=sleeps,
        )
    assert sleeps.slept == []
