"""What libfaketime leaves behind: files by the ids of processes, for other processes to open."""

import os
import subprocess
import sys
from pathlib import Path

from tests.moved_clock import remove_leftovers


def test_only_the_files_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    """A process of another account that had the same id as a killed one could not start."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    kept = [tmp_path / f"faketime_shm_{os.getpid()}", tmp_path / "PostgreSQL.1"]
    left = [tmp_path / f"{kind}_{gone.pid}" for kind in ("faketime_shm", "sem.faketime_sem")]
    for file in (*kept, *left):
        file.touch()
    remove_leftovers(tmp_path)
    assert {*tmp_path.iterdir()} == {*kept}
