"""runtime/command.py: how a command ends: its exit code and its last line."""

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

MISCONFIGURED = Misconfigured("PORT", "is taken", "PORT=8001")
AWAY = Retry("redis_away", "Redis does not answer")


async def end_with(result: int | BaseException) -> int:
    await asyncio.sleep(0)
    if isinstance(result, BaseException):
        raise result
    return result


@pytest.mark.parametrize("code", [0, 1])
def test_a_command_ends_with_its_own_code(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(end_with(code)) == code
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (MISCONFIGURED, 2, "PORT: is taken (for example: PORT="),
        (AWAY, 1, "Redis does not answer"),
        (DeadLetter("sqlstate_23514", "CheckViolationError"), 1, "is refused: CheckViolationError"),
        (asyncio.CancelledError(), 1, "interrupted"),
    ],
)
def test_what_an_operator_can_correct_is_one_line_and_no_traceback(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(end_with(error)) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert line in printed.err


@pytest.fixture
def _own_logging() -> Iterator[None]:
    """Restores the logging that a process configures for itself."""
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
    """The only line that was printed, parsed as JSON."""
    (line,) = capsys.readouterr().err.splitlines()
    read: dict[str, Any] = json.loads(line)
    return read


@pytest.mark.usefixtures("_own_logging")
@pytest.mark.parametrize(
    ("error", "code", "why"),
    [
        (MISCONFIGURED, 2, "PORT: is taken (for example: PORT="),
        (AWAY, 1, "Redis does not answer"),
        (asyncio.CancelledError(), 1, "interrupted"),
    ],
)
def test_the_last_line_of_a_process_has_the_format_of_its_log(
    error: BaseException, code: int, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_process(error, LOG_FORMAT="json") == code
    line = last_line(capsys)
    assert line["why"].startswith(why)
    assert (line["level"], line["process"], line["exit_code"]) == ("critical", "collector", code)
    assert end_process(error, LOG_FORMAT="text") == code
    assert capsys.readouterr().err.startswith(f"error: {why}")


@pytest.mark.usefixtures("_own_logging")
def test_a_wrong_setting_of_the_log_itself_is_reported_in_the_requested_format(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert end_process(0, LOG_FORMAT="JSON", LOG_LEVEL="loud") == 2
    assert last_line(capsys)["why"].startswith("LOG_LEVEL: 'loud' is none of")
    assert end_process(0, LOG_FORMAT="xml") == 2
    assert capsys.readouterr().err.startswith("error: LOG_FORMAT: 'xml' is none of")


@pytest.mark.usefixtures("_own_logging")
@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize(
    ("fault", "place"),
    [
        (ExceptionGroup("a", [ValueError("198.51.100.7"), OSError("198.51.100.7")]), "ValueError"),
        (KeyError("198.51.100.7"), "test_command.py"),
    ],
    ids=["group", "one"],
)
def test_a_fault_of_ours_is_one_line_with_its_place_and_without_its_text(
    log_format: str, fault: Exception, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its text may be a request's."""
    assert end_process(fault, LOG_FORMAT=log_format) == 1
    line = capsys.readouterr().err
    assert len(line.splitlines()) == 1
    assert place in line
    assert "end_with" in line or isinstance(fault, ExceptionGroup)
    assert "198.51.100.7" not in line
