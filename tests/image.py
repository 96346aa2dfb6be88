"""The image's files without an engine: the steps of `deploy/Dockerfile`, taken in a bare folder."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.system import ROOT

DOCKERFILE = ROOT / "deploy/Dockerfile"


def build_image(folder: Path) -> None:
    """Carries out the first stage's steps, in whose folder the second one runs.

    Packages are not installed: the tests' own Python has them, and stands where the steps expect
    one. `tests/acceptance/test_units.py` installs what production has, and nothing else.
    """
    interpreter = folder / ".venv/bin/python"
    interpreter.parent.mkdir(parents=True)
    interpreter.symlink_to(sys.executable)
    for step, words in steps(
        DOCKERFILE.read_text().partition("\nFROM ")[2].partition("\nFROM ")[0]
    ):
        if step == "COPY":
            *sources, target = shlex.split(words)
            for source in sources:
                _copy(source, folder, target)
        elif step == "RUN" and " pip install " not in words:
            subprocess.run(["/bin/sh", "-euc", words], cwd=folder, check=True)


def steps(dockerfile: str) -> list[tuple[str, str]]:
    """Each step's name and the rest of its line."""
    lines = re.sub(r"\\\n\s*", "", dockerfile).splitlines()
    return [(words[0], words[2]) for line in lines if (words := line.partition(" "))[0].isupper()]


def _copy(source: str, folder: Path, target: str) -> None:
    """As an engine does: a folder's content, or a file into a folder whose name ends with `/`."""
    ignored = _ignored_names((ROOT / ".dockerignore").read_text())

    def left_out(directory: str, names: list[str]) -> list[str]:
        inside = Path(directory).relative_to(ROOT)
        return [name for name in names if ignored.fullmatch((inside / name).as_posix())]

    if (ROOT / source).is_dir():
        shutil.copytree(
            ROOT / source, folder / target, ignore=left_out, symlinks=True, dirs_exist_ok=True
        )
        return
    destination = folder / target
    if target.endswith("/"):
        destination /= Path(source).name
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / source, destination)


def _ignored_names(dockerignore: str) -> re.Pattern[str]:
    """What a `.dockerignore` of plain patterns names: `*` within a name, `**/` any folder."""
    patterns = [line for line in dockerignore.splitlines() if line and not line.startswith("#")]
    assert not any(pattern.startswith("!") for pattern in patterns), "no exceptions are read here"
    expressions = [
        re.escape(pattern.strip("/")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        for pattern in patterns
    ]
    return re.compile("|".join(expressions))
