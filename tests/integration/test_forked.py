"""The tests' own programs, which are forked: what is left of them."""

import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types

from tests.processes import left_of
from tests.system import ROOT

_PROGRAM = """
import sys
from pathlib import Path
from tests.forked import ForkedProcess
log = Path(sys.argv[1])
environment = {"REDIS_URL": "redis://127.0.0.1:1", "ADMIN_PORT": "0"}
print(ForkedProcess("rotation", [], environment, log, log).pid, flush=True)
sys.stdin.read()
"""


def test_a_program_is_gone_when_who_started_it_is_killed(tmp_path: Path) -> None:
    """It would go on for days, and take a core's time from all tests that come."""
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as asked:
        assert asked.stdout is not None
        program = psutil.Process(int(asked.stdout.readline()))
        family = [program, program.parent()]
        asked.kill()
    assert left_of(family) == []
