"""runtime/command.py: how a command ends, for an operator and for a script."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from contract.errors import DeadLetter, Misconfigured, Retry
from contract.setting import Environment
from runtime.clock import Clock, wall_clock
from runtime.command import run_command, run_process


async def end_with(result: int | BaseException) -> int:
    await asyncio.sleep(0)
    if isinstance(result, BaseException):
        raise result
    return result


def test_a_command_that_ends_well_ends_with_its_own_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(end_with(0)) == 0
    assert run_command(end_with(1)) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (Misconfigured("PORT", "is taken", "PORT=8001"), 2, "PORT: is taken (for example: PORT="),
        (Retry("redis_away", "Redis does not answer"), 1, "Redis does not answer"),
        (DeadLetter("sqlstate_23514", "CheckViolationError"), 1, "is refused: CheckViolationError"),
        (asyncio.CancelledError(), 1, "interrupted"),
    ],
)
def test_what_an_operator_can_mend_is_one_line_and_no_traceback(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(end_with(error)) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert line in printed.err


@pytest.fixture
def _own_logging() -> Iterator[None]:
    """What a process sets up for itself is gone after the test."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)


def end_process(result: int | BaseException, **environment: str) -> int:
    async def main(_: Environment, __: Clock) -> int:
        return await end_with(result)

    return run_process("collector", main, environment, wall_clock)


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one line that was printed, as JSON."""
    (line,) = capsys.readouterr().err.splitlines()
    read: dict[str, Any] = json.loads(line)
    return read


@pytest.mark.usefixtures("_own_logging")
@pytest.mark.parametrize(
    ("error", "code", "why"),
    [
        (Misconfigured("PORT", "is taken", "PORT=8001"), 2, "PORT: is taken (for example: PORT="),
        (Retry("redis_away", "Redis does not answer"), 1, "Redis does not answer"),
        (asyncio.CancelledError(), 1, "interrupted"),
    ],
)
def test_the_last_line_of_a_process_is_for_machines_where_its_lines_are(
    error: BaseException, code: int, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_process(error, LOG_FORMAT="json") == code
    line = last_line(capsys)
    assert line["why"].startswith(why)
    assert (line["level"], line["process"], line["exit_code"]) == ("critical", "collector", code)
    assert end_process(error, LOG_FORMAT="text") == code
    assert capsys.readouterr().err.startswith(f"error: {why}")


@pytest.mark.usefixtures("_own_logging")
def test_a_wrong_setting_of_the_log_itself_is_told_in_the_form_that_was_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert end_process(0, LOG_FORMAT="JSON", LOG_LEVEL="loud") == 2
    assert last_line(capsys)["why"].startswith("LOG_LEVEL: 'loud' is none of")
    assert end_process(0, LOG_FORMAT="xml") == 2
    assert capsys.readouterr().err.startswith("error: LOG_FORMAT: 'xml' is none of")


@pytest.mark.usefixtures("_own_logging")
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_fault_of_ours_is_one_line_that_says_where_and_quotes_nothing(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its words may be a request's."""
    faults = ExceptionGroup("unhandled", [ValueError("198.51.100.7"), OSError("198.51.100.7")])
    assert end_process(faults, LOG_FORMAT=log_format) == 1
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "ValueError" in told
    assert "198.51.100.7" not in told
    assert end_process(KeyError("198.51.100.7"), LOG_FORMAT=log_format) == 1
    told = capsys.readouterr().err
    assert "test_command.py" in told
    assert "end_with" in told
    assert "198.51.100.7" not in told
