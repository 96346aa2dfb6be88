"""The whole system as real processes, for tests that go from a request to a row."""

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
    "find_free_port",
    "run_command",
    "run_python",
]


class System(PythonSystem):
    """The same, forked."""

    program_type = ForkedProgram


async def run_command(module: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Runs a command to its end: its exit code, standard output and standard error."""
    if can_be_forked(module, environment):
        return await run_forked(module, arguments, environment)
    return await run_python(module, *arguments, **environment)
