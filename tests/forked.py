"""Our commands without the half second that Python and their imports take to start.

Each is forked from a process that has imported them: a process of its own, with its own arguments,
environment and output. That `python -m` comes to the same is tested with the commands themselves.
"""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

MODULES: Final = ("collector", "flusher", "rotation")
_ROOT = Path(__file__).parent.parent
# What Python and the dynamic linker read only when a program starts.
_READ_AT_A_START = ("PYTHON", "LD_", "DYLD_")

_CONTEXT: Final = get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__, *(f"{module}.__main__" for module in MODULES)])


def can_be_forked(module: str, environment: Mapping[str, str]) -> bool:
    """Whether the process that is forked knows this module, and can be given this environment."""
    return module in MODULES and not any(name.startswith(_READ_AT_A_START) for name in environment)


async def run_forked(
    module: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[int, str, str]:
    """Runs a command to its end: its exit code, standard output and standard error."""
    with TemporaryDirectory(prefix="forked-") as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        process = _CONTEXT.Process(
            target=_become,
            args=(module, arguments, {**os.environ, **environment}, output, errors),
        )
        await asyncio.to_thread(process.start)
        await asyncio.to_thread(process.join)
        code = process.exitcode
        process.close()
        assert code is not None
        return code, output.read_text(), errors.read_text()


def _become(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    output: Path,
    errors: Path,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(_ROOT)
    sys.argv = [module, *arguments]
    for stream, path in ((1, output), (2, errors)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - the process's own, to its end
    sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115 - the same
    sys.exit(import_module(f"{module}.__main__").main())
