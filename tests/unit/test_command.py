"""runtime/command.py: how a command ends: its exit code and its last line."""

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from contract.errors import Misconfigured, Retry
from contract.setting import Environment
from runtime.clock import Clock, wall_clock
from runtime.command import run_process


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Restores the logging that a process configures for itself."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)


def end_process(error: BaseException, log_format: str) -> int:
    async def end_with_it(_: Environment, __: Clock) -> int:
        raise error

    return run_process("collector", end_with_it, {"LOG_FORMAT": log_format}, wall_clock)


@pytest.mark.parametrize(
    ("error", "code", "why"),
    [
        (Misconfigured("PORT", "is taken", "PORT=8001"), 2, "PORT: is taken (for example: PORT="),
        (Retry("redis_away", "Redis does not answer"), 1, "Redis does not answer"),
        (asyncio.CancelledError(), 1, "interrupted"),
    ],
)
def test_the_last_line_of_a_process_has_the_format_of_its_log(
    error: BaseException, code: int, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_process(error, "json") == code
    line = json.loads(capsys.readouterr().err)
    assert line["why"].startswith(why)
    assert (line["level"], line["process"], line["exit_code"]) == ("critical", "collector", code)
    assert end_process(error, "text") == code
    assert capsys.readouterr().err.startswith(f"error: {why}")


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize(
    ("fault", "place"),
    [
        (ExceptionGroup("a", [ValueError("198.51.100.7"), OSError("198.51.100.7")]), "ValueError"),
        (KeyError("198.51.100.7"), "end_with_it"),
    ],
    ids=["group", "one"],
)
def test_a_fault_of_ours_is_one_line_with_its_place_and_without_its_text(
    log_format: str, fault: Exception, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its text may be a request's."""
    assert end_process(fault, log_format) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert place in line
    assert "198.51.100.7" not in line
