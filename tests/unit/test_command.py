"""process/command.py: how a command ends, for an operator and for a script."""

import asyncio

import pytest

from contract.errors import DeadLetter, Misconfigured, Retry
from process.command import run_command


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
