"""runtime/command.py: how a process ends by a fault of ours. `tests/integration/test_logs.py` and
`test_commands.py` have the other ends.
"""

import logging
from collections.abc import Iterator

import pytest
import structlog

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

    async def end_with_it(_: Environment, __: Clock) -> int:
        raise fault

    assert run_process("collector", end_with_it, {"LOG_FORMAT": log_format}, wall_clock) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert place in line
    assert "198.51.100.7" not in line
