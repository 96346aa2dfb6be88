"""runtime/command.py: how a command ends: its exit code and its last line."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from contract.errors import Misconfigured, Retry
from contract.setting import Environment
from runtime.clock import Clock, wall_clock
from runtime.command import run_process

MISCONFIGURED = Misconfigured("PORT", "is taken", "PORT=8001")
AWAY = Retry("redis_away", "Redis does not answer")


async def end_with(result: int | BaseException) -> int:
    await asyncio.sleep(0)
    if isinstance(result, BaseException):
        raise result
    return result


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
