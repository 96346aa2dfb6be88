"""What keeps a process from PostgreSQL before the network does: the files that it takes."""

import os
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.servers import Servers
from tests.system import ROOT, run_command


@pytest.mark.parametrize("parameter", ["sslrootcert", "sslcrl", "sslcert"])
async def test_a_file_that_the_url_names_and_that_is_not_there_is_named(
    dsn: str, parameter: str
) -> None:
    url = f"{dsn}?sslmode=require&{parameter}=/nowhere.pem"
    await is_one_line_about(url, "/nowhere.pem", f"?{parameter}= names")


async def test_a_file_that_the_environment_names_is_named(dsn: str) -> None:
    url = f"{dsn}?sslmode=require"
    named = {"PGSSLROOTCERT": "/nowhere.pem"}
    await is_one_line_about(url, "/nowhere.pem", "PGSSLROOTCERT names", **named)


async def test_authorities_that_are_asked_for_and_not_there_are_named(
    dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / ".postgresql/root.crt"
    await is_one_line_about(f"{dsn}?sslmode=verify-full", str(file), HOME=str(tmp_path))


async def test_a_home_that_can_t_be_looked_into_is_named_with_its_remedy(dsn: str) -> None:
    """As under ProtectHome=yes. A name that is too long is refused to root, too."""
    home = "/" + "long" * 100
    await is_one_line_about(dsn, f"{home}/.postgresql/", "ProtectHome=tmpfs", HOME=home)


async def test_a_home_of_somebody_else_is_named_with_its_remedy(dsn: str, tmp_path: Path) -> None:
    """The same, as it comes about."""
    (tmp_path / "home").mkdir(mode=0)
    # Without root's rights, and still somebody who may read the project.
    weak = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    process = await create_subprocess_exec(
        *(*weak, sys.executable, "-m", "flusher", "migrate"),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": dsn, "HOME": str(tmp_path / "home")},
        stdout=PIPE,
        stderr=PIPE,
    )
    output, errors = (text.decode() for text in await process.communicate())
    assert (process.returncode, output, errors.count("\n")) == (2, "", 1), errors
    assert f"{tmp_path}/home/.postgresql/" in errors
    assert "Permission denied" in errors


async def test_a_password_file_that_is_not_there_is_named(embedded_servers: Servers) -> None:
    """It is gone on without, and the server speaks of a wrong user or password."""
    dsn = embedded_servers.postgres.dsn().replace("postgres@", "nobody_there@")
    await is_one_line_about(f"{dsn}?passfile=/nowhere.pgpass", "/nowhere.pgpass", "?passfile=")


async def test_files_are_not_blamed_for_a_server_that_is_away() -> None:
    dsn = "postgresql://postgres@127.0.0.1:1/impact?passfile=/nowhere.pgpass"
    code, _, errors = await run_command("flusher", "migrate", DATABASE_URL=dsn)
    assert code == 1
    assert "can't be reached" in errors


async def is_one_line_about(dsn: str, *words: str, **environment: str) -> None:
    code, output, errors = await run_command("flusher", "migrate", DATABASE_URL=dsn, **environment)
    assert (code, output, errors.count("\n")) == (2, "", 1), errors
    assert errors.startswith("error: DATABASE_URL: ")
    for word in words:
        assert word in errors
