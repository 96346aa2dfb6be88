"""The whole system as real processes, for tests that go from a request to a row."""

from collections.abc import Callable

from embedded.ports import find_free_port
from embedded.system import JWT_KEY, ROOT, Program, eventually
from embedded.system import System as PythonSystem
from embedded.system import run_command as run_python
from tests.forked import ForkedProgram, can_be_forked, run_forked

__all__ = [
    "JWT_KEY",
    "ROOT",
    "Program",
    "PythonSystem",
    "System",
    "eventually",
    "fail_in_one_line",
    "find_free_port",
    "run_command",
    "run_python",
    "run_successfully",
    "until",
]


class System(PythonSystem):
    """The same, forked."""

    program_type = ForkedProgram


async def until(holds: Callable[[], object]) -> None:
    """Waits until a condition that needs no waiting itself is true."""

    async def look() -> bool:
        return bool(holds())

    await eventually(look)


async def run_command(module: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Runs a command to its end: its exit code, standard output and standard error."""
    if can_be_forked(module, environment):
        return await run_forked(module, arguments, environment)
    return await run_python(module, *arguments, **environment)


async def run_successfully(module: str, *arguments: str, **environment: str) -> str:
    """Runs a command that must succeed; its standard output."""
    code, output, errors = await run_command(module, *arguments, **environment)
    assert code == 0, errors
    return output


async def fail_in_one_line(code: int, module: str, *arguments: str, **environment: str) -> str:
    """Runs a command that must end with this code and one line on standard error; that line."""
    ended, output, errors = await run_command(module, *arguments, **environment)
    assert (ended, output, errors.count("\n")) == (code, "", 1), errors
    return errors
