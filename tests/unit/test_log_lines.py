"""Lines for operators: repetitions are limited, an outage has an end, secrets are removed."""

import pytest
import structlog

from contract.calendar import SECOND_US
from contract.setting import Setting
from contract.settings import DATABASE_URL, JWT_KEY, REDIS_URL
from runtime.logs import REPEATED_SECONDS, RepetitionLimit
from runtime.periodic import Outage
from runtime.server_checks import clock_difference
from tests.unit.steady import Steady


def written(limit: RepetitionLimit, method: str = "error", **line: object) -> dict[str, object]:
    try:
        return dict(limit(None, method, line))
    except structlog.DropEvent:
        return {}


def test_a_repeated_error_is_written_sometimes_with_its_number_of_repetitions() -> None:
    clock = Steady()
    limit = RepetitionLimit(clock)
    assert written(limit, event="full", seconds=1)
    for seconds in range(2, 7):
        clock.seconds += 1
        assert not written(limit, event="full", seconds=seconds)
    clock.seconds += REPEATED_SECONDS
    assert written(limit, event="full", seconds=9)["repeated"] == 5
    clock.seconds += REPEATED_SECONDS
    assert "repeated" not in written(limit, event="full", seconds=9)


def test_different_lines_and_lines_below_a_warning_are_all_written() -> None:
    limit = RepetitionLimit(Steady())
    assert written(limit, event="away", why="Redis")
    assert written(limit, event="away", why="PostgreSQL")
    assert not written(limit, event="away", why="Redis")
    for _ in range(3):
        assert written(limit, "info", event="flushed")


def test_the_memory_of_lines_is_bounded() -> None:
    limit = RepetitionLimit(Steady())
    for number in range(5000):
        written(limit, event=str(number))
        written(limit, event=str(number))
    assert len(limit._lines) <= 500


def test_an_outage_of_several_parts_ends_with_the_last_of_them_in_one_line() -> None:
    clock = Steady()
    outage = Outage("works again", clock)
    with structlog.testing.capture_logs() as lines:
        for part in ("one", "one", "other"):
            outage.fails(part)
            clock.seconds += 1.1
        outage.works("one")
        assert lines == []
        for _ in range(2):
            outage.works("other")
    assert lines == [{"event": "works again", "lasted_seconds": 3.3, "log_level": "warning"}]


@pytest.mark.parametrize(
    ("setting", "text", "shown"),
    [
        (REDIS_URL, "redis://:s3cret@cache:6379/2", "redis://:***@cache:6379/2"),
        (REDIS_URL, "redis://cache:6379/2", "redis://cache:6379/2"),
        (REDIS_URL, "unix:///r.sock?password=s3cret&db=1", "unix:///r.sock?password=***&db=1"),
        (
            DATABASE_URL,
            "postgresql://a:s3cr@et@h1:5432,h2/impact?sslmode=verify-full",
            "postgresql://a:***@h1:5432,h2/impact?sslmode=verify-full",
        ),
        (DATABASE_URL, "postgres:///a?sslpassword=s3cret", "postgres:///a?sslpassword=***"),
        (REDIS_URL, "redis://:s3c#ret@cache", "unreadable"),
        (REDIS_URL, "redis://:s3c/ret@cache", "unreadable"),
        (REDIS_URL, "redis://:s3c?ret@cache", "unreadable"),
        (JWT_KEY, "s3cret", "set"),
        (JWT_KEY, "", "unset"),
    ],
)
def test_a_setting_is_shown_without_its_secrets(
    setting: Setting[str], text: str, shown: str
) -> None:
    assert setting.show({setting.name: text}) == shown


@pytest.mark.parametrize(
    ("its", "said"),
    [(100.0, None), (102.9, None), (98.1, None), (110.5, "10 s ahead of"), (40.5, "60 s behind")],
)
def test_the_difference_of_two_clocks_is_reported(its: float, said: str | None) -> None:
    difference = clock_difference(
        "REDIS_URL", round(its * SECOND_US), 100 * SECOND_US, 101 * SECOND_US
    )
    assert (difference is None) == (said is None)
    assert said is None or (difference is not None and difference.value.startswith(said))
