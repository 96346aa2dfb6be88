"""The Makefile: what it installs and when, with stand-ins for Python and pip that write it down."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Stands for python3, and makes a .venv in which it stands for everything else.
PYTHON = """#!/bin/sh
case "$*" in
*"-m venv .venv") mkdir -p .venv/bin
    for name in python pip ruff mypy lint-imports; do cp "$0" .venv/bin/$name; done ;;
*"pip install"*) test ! -e broken || exit 1 ;;
esac
echo "$*" | sed -n 's/.*-m venv/venv/p; s/.*-r requirements/install/p' >> said
"""
EVERY = ["install/run.txt", "install/test.txt", "install/development.txt"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of what `make` looks at."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements").mkdir()
    for name in ("run", "test", "development"):
        write_lock_file(tmp_path, name, age=60)
    (tmp_path / "python3").write_text(PYTHON)
    (tmp_path / "python3").chmod(0o755)
    (tmp_path / "npm").symlink_to("/bin/false")  # the beacon's package is not looked at here
    return tmp_path


def write_lock_file(clone: Path, name: str, *, age: int) -> None:
    path = clone / "requirements" / f"{name}.txt"
    path.touch()
    when = path.stat().st_mtime - age
    os.utime(path, (when, when))


def run_make(clone: Path, target: str) -> subprocess.CompletedProcess[str]:
    # The make that runs the tests passes its own flags and level on.
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    programs = f"{clone}:{own['PATH']}"
    environment = own | {"PYTHON": str(clone / "python3"), "PATH": programs}
    command = ["make", target]
    return subprocess.run(
        command, cwd=clone, env=environment, capture_output=True, text=True, check=False
    )


def make(clone: Path, target: str) -> tuple[int, list[str]]:
    """Its exit status, and what was installed."""
    said = clone / "said"
    said.write_text("")
    result = run_make(clone, target)
    return result.returncode, said.read_text().splitlines()


@pytest.mark.parametrize(
    ("target", "installed"),
    [
        ("run", EVERY[:1]),
        ("test", EVERY[:2]),
        ("test-long", EVERY[:2]),
        ("test-engines", EVERY[:2]),
        ("check", EVERY),
        ("bench", EVERY),
        ("install", EVERY),
    ],
)
def test_from_nothing_each_target_installs_what_it_takes_once(
    target: str, installed: list[str], clone: Path
) -> None:
    assert make(clone, target) == (0, ["venv .venv", *installed])
    assert make(clone, target) == (0, [])


def test_a_target_adds_what_is_missing_and_never_goes_back(clone: Path) -> None:
    assert make(clone, "run") == (0, ["venv .venv", "install/run.txt"])
    assert make(clone, "test") == (0, ["install/test.txt"])
    assert make(clone, "run") == (0, [])
    assert make(clone, "check") == (0, ["install/development.txt"])
    assert [make(clone, target) for target in ("run", "test", "check")] == [(0, [])] * 3


def test_a_lock_file_that_changed_is_installed_again(clone: Path) -> None:
    make(clone, "check")
    write_lock_file(clone, "development", age=-60)
    assert make(clone, "run") == (0, [])
    assert make(clone, "test") == (0, [])
    assert make(clone, "check") == (0, ["install/development.txt"])


def test_an_installation_that_failed_is_tried_again(clone: Path) -> None:
    (clone / "broken").touch()
    assert make(clone, "run")[0] != 0
    (clone / "broken").unlink()
    assert make(clone, "run") == (0, ["install/run.txt"])


def test_a_python_that_is_too_old_is_named_in_one_line(clone: Path) -> None:
    (clone / "python3").write_text("#!/bin/sh\nexit 1\n")
    result = run_make(clone, "run")
    assert result.returncode != 0
    assert result.stderr.startswith("Python 3.11 or newer is needed and ")
    assert result.stdout == ""
