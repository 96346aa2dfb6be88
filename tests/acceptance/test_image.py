"""What `deploy/Dockerfile` copies is all that the processes open."""

import os
import tomllib
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from redis.asyncio import Redis

from embedded.procfile import read_procfile
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.conftest import Databases
from tests.image import build_image
from tests.servers import Servers
from tests.system import ROOT, Program, PythonSystem, eventually


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    build_image(folder)
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
