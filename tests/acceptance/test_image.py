"""What `deploy/Dockerfile` copies is all that the processes open."""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from redis.asyncio import Redis

from embedded.procfile import read_procfile
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.conftest import Databases
from tests.servers import Servers
from tests.system import ROOT, Program, PythonSystem, eventually


def steps(dockerfile: str) -> list[tuple[str, str]]:
    """Each step's name and the rest of its line."""
    lines = re.sub(r"\\\n\s*", "", dockerfile).splitlines()
    return [(words[0], words[2]) for line in lines if (words := line.partition(" "))[0].isupper()]


def _copy(source: str, folder: Path, target: str) -> None:
    """As an engine does: a folder's content, or a file into a folder whose name ends with `/`."""
    if (ROOT / source).is_dir():
        shutil.copytree(
            ROOT / source, folder / target, ignore=_ignored, symlinks=True, dirs_exist_ok=True
        )
        return
    destination = folder / target
    if target.endswith("/"):
        destination /= Path(source).name
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / source, destination)


def _ignored(directory: str, names: list[str]) -> set[str]:
    """What `.dockerignore` names in a folder: with `**/` in any, else in the uppermost."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert not any(pattern.startswith("!") for pattern in patterns), "no exceptions are read here"
    here = [
        pattern.removeprefix("**/")
        for pattern in patterns
        if pattern.startswith("**/") or Path(directory) == ROOT
    ]
    return {name for pattern in here for name in fnmatch.filter(names, pattern)}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's files without an engine: the first stage's steps, taken in a bare folder, in
    which the second one runs.

    Packages are not installed: the tests' own Python has them, and stands where the steps expect
    one. `test_units.py` installs what production has, and nothing else.
    """
    folder = tmp_path_factory.mktemp("image")
    interpreter = folder / ".venv/bin/python"
    interpreter.parent.mkdir(parents=True)
    interpreter.symlink_to(sys.executable)
    _, first_stage, _ = (ROOT / "deploy/Dockerfile").read_text().split("\nFROM ")
    for step, words in steps(first_stage):
        if step == "COPY":
            *sources, target = shlex.split(words)
            for source in sources:
                _copy(source, folder, target)
        elif step == "RUN" and " pip install " not in words:
            subprocess.run(["/bin/sh", "-euc", words], cwd=folder, check=True)
    return folder


async def test_every_row_of_the_procfile_runs_on_nothing_but_the_image(
    image: Path, embedded_servers: Servers, databases: Databases, redis: Redis, tmp_path: Path
) -> None:
    """From the beacon's module to the row and the report."""
    assert await redis.dbsize() == 0
    rows = read_procfile(ROOT / "Procfile")
    dsn = await databases.create_empty(f"image_{os.getpid()}")
    with PythonSystem(embedded_servers.redis.url, dsn, tmp_path, {"PYTHONPATH": ""}) as system:

        def program(row: str) -> Program:
            _, _, module, *arguments = rows[row].split()
            made = system.program(module)
            made.arguments, made.folder = tuple(arguments), image
            return made.start()

        release = program("release")
        assert await release.exit_code() == 0, release.log
        for row in ("web", "worker", "clock"):
            await program(row).ready()
        async with aiohttp.ClientSession(headers={"User-Agent": FIREFOX}) as http:
            async with http.get(system.url + "/beacon.js") as answer:
                assert answer.status == 200
            async with http.post(system.url + SESSIONS) as answer:
                assert answer.status == 201
        connection = await asyncpg.connect(dsn)
        await eventually(lambda: connection.fetchval("SELECT count(*) FROM sessions"))
        await connection.close()
        report = system.program("flusher")
        report.arguments, report.folder = ("report", "--format", "html"), image
        assert await report.start().exit_code() == 0, report.log
        assert "</html>" in report.log


def test_the_image_has_nothing_that_only_development_needs(image: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (rule,) = [
        contract
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["name"] == "The embedded servers are no part of production"
    ]
    there = {path.name for path in image.iterdir()}
    assert not there & {*rule["forbidden_modules"], "tests", "docs", "deploy"}
    assert {name for name in there if name.startswith(".")} == {".venv"}
    assert [path.name for path in (image / ".venv").iterdir()] == ["bin"], "not the checkout's own"
