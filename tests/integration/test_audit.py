"""The audit of dependencies, against an advisory database of the test's own (OSV's API)."""

import asyncio
import subprocess
import sys

import pytest
from aiohttp import web

from embedded.ports import find_free_port
from tests.system import ROOT

_HOLE = {
    "id": "PYSEC-2026-1",
    "summary": "a hole",
    "details": "a hole",
    "published": "2026-01-01T00:00:00Z",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "aiohttp", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}],
        }
    ],
}


async def run_audit(port: int, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, str(ROOT / "requirements/audit.py")]
    command += ["--vulnerability-service=osv", f"--osv-url=http://127.0.0.1:{port}/", *arguments]
    result = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False
    )
    assert result.stderr == ""
    return result.returncode, result.stdout


async def test_a_known_vulnerability_fails_the_check_in_one_line() -> None:
    """That the check passes without one is seen by `make audit` itself."""

    async def query(request: web.Request) -> web.Response:
        asked = (await request.json())["package"]["name"]
        return web.json_response({"vulns": [_HOLE]} if asked == "aiohttp" else {})

    application = web.Application()
    application.router.add_post("/", query)
    runner = web.AppRunner(application)
    await runner.setup()
    port = find_free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    code, output = await run_audit(port)
    await runner.cleanup()
    assert (code, output.count("\n")) == (1, 1), output
    assert output.startswith("aiohttp ")
    assert "PYSEC-2026-1; mended in 99.0" in output


async def test_without_a_database_it_says_so_and_passes() -> None:
    code, output = await run_audit(1)
    assert (code, output.count("\n")) == (0, 1)
    assert output.startswith("Dependencies could not be audited: ")


@pytest.mark.long
async def test_an_audit_that_fails_for_another_reason_is_no_success() -> None:
    code, output = await run_audit(1, "--requirement=/nowhere.txt")
    assert code == 1, output
