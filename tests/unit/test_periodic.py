"""runtime/periodic.py: work that is repeated, and work that is tried again."""

import pytest
from structlog.testing import capture_logs

from contract.errors import Misconfigured, Retry
from runtime.periodic import Backoff, failure_log, repeat, retry
from tests.unit.steady import Pauses

AWAY = Retry("redis_away", "it is away")
WRONG = Misconfigured("A", "is wrong", "a")


class Turns:
    """Work that raises each error in turn. None is a success, as is everything after the last: it
    returns its number.
    """

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.done = 0

    async def __call__(self) -> int:
        self.done += 1
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return self.done


async def test_work_begins_at_once_and_is_repeated_until_asked_to_stop() -> None:
    turns, stopping = Turns(), Pauses(3)
    await repeat(turns, stopping, 5.0)
    assert turns.done == 3
    assert stopping.seconds == [5.0, 5.0, 5.0]
    await repeat(turns, stopping, 5.0)
    assert turns.done == 3, "asked to stop before it began"


async def test_pauses_grow_while_the_work_fails() -> None:
    turns, stopping = Turns(AWAY, AWAY, None, AWAY), Pauses(4)
    await repeat(turns, stopping, 60.0, backoff=Backoff(1.0, 8.0, lambda: 0.0))
    assert stopping.seconds == [1.0, 2.0, 60.0, 1.0]


async def test_each_failure_is_logged_and_so_is_the_end_of_the_failures() -> None:
    failures = failure_log("it can't be done", "it is done again", "see to it")
    with capture_logs() as lines:
        await repeat(Turns(None, AWAY, AWAY), Pauses(5), 5.0, report=failures)
    assert [line["event"] for line in lines] == ["it can't be done"] * 2 + ["it is done again"]
    assert lines[0]["why"] == "it is away"
    assert lines[0]["seconds"] == 5.0
    assert lines[0]["to_do"] == "see to it"


async def test_an_error_that_does_not_pass_ends_the_loop() -> None:
    with pytest.raises(Misconfigured):
        await repeat(Turns(WRONG), Pauses(3), 5.0)
    turns = Turns(WRONG)
    await repeat(turns, Pauses(3), 5.0, passing=(Retry, Misconfigured))
    assert turns.done == 3


def least() -> float:
    return 0.0


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(0.1, 5.0, least)
    assert [round(backoff.pause(n), 1) for n in (1, 2, 3, 6, 7, 10_000)] == [
        *(0.1, 0.2, 0.4, 3.2, 5.0, 5.0)
    ]


def test_a_random_part_shortens_a_pause_by_at_most_a_quarter() -> None:
    assert Backoff(1.0, 8.0, lambda: 1.0).pause(4) == 6.0
    assert {6.0 <= Backoff(1.0, 8.0).pause(4) <= 8.0 for _ in range(1000)} == {True}


async def test_errors_that_pass_are_tried_again_within_a_time_and_others_are_raised_at_once() -> (
    None
):
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    backoff = Backoff(1, 4, least)
    assert await retry(Turns(AWAY, AWAY), Retry, backoff, within=10, sleep=sleep) == 3
    assert slept == [1, 2]
    slept.clear()
    turns = Turns(*[AWAY] * 9)
    with pytest.raises(Retry, match="it is away"):
        await retry(turns, Retry, backoff, within=7, sleep=sleep)
    assert (slept, turns.done) == ([1, 2, 4], 4)
    slept.clear()
    with pytest.raises(Misconfigured):
        await retry(Turns(WRONG), Retry, backoff, within=9, sleep=sleep)
    assert slept == []
