"""What the collector serves besides its endpoints: the beacon, and the demo if it is enabled."""

import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

from collector.http.beacon import SOURCE, without_comments
from tests.acceptance.conftest import Front
from tests.servers import EMBEDDED
from tests.system import ROOT, System, find_free_port

FLAVOURS = [EMBEDDED]
MODULE = without_comments(SOURCE.read_text())


async def test_the_module_is_served_to_pages_of_any_origin(front: Front) -> None:
    answer = await front.send("GET", "/beacon.js")
    assert (answer.status, answer.body) == (200, MODULE)
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Access-Control-Allow-Origin"] == "*", "one copy in a cache serves all"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert "max-age=" in answer.headers["Cache-Control"]

    etag = answer.headers["ETag"]
    again = await front.send("GET", "/beacon.js", headers={"If-None-Match": etag})
    assert (again.status, again.body) == (304, "")
    for name in ("ETag", "Cache-Control", "Vary", "Access-Control-Allow-Origin"):
        assert again.headers[name] == answer.headers[name]
    other = await front.send("GET", "/beacon.js", headers={"If-None-Match": 'W/"another"'})
    assert other.status == 200

    head = await front.send("HEAD", "/beacon.js", headers={"Accept-Encoding": "identity"})
    assert (head.status, head.body) == (200, "")
    assert int(head.headers["Content-Length"]) == len(MODULE.encode())
    assert (await front.send("POST", "/beacon.js")).status == 405


async def test_the_module_is_compressed_for_clients_that_accept_gzip(front: Front) -> None:
    for accepted, encoding in (
        *(("gzip, br", "gzip"), ("identity", None), ("", None), ("br, GZIP;q=0.5", "gzip")),
        *(("gzip;q=0", None), ("gzip; q=0.000, *", None), ("*", "gzip"), ("*;q=0", None)),
        *(("gzip;q=0.001", "gzip"), ("notgzip", None)),
    ):
        answer = await front.send("GET", "/beacon.js", headers={"Accept-Encoding": accepted})
        assert answer.headers.get("Content-Encoding") == encoding
        assert answer.body == MODULE


async def test_the_demo_works_without_a_token_and_without_a_database(
    front: Front, tmp_path: Path
) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:{find_free_port()}/nothing"
    with System(front.system.redis_url, nowhere, tmp_path, {"DEMO": "1"}) as system:
        (collector,) = await system.start("collector")
        demo = replace(front, system=system)
        page = await demo.send("GET", "/demo")
        assert page.status == 200
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        token = await demo.send("GET", "/demo/token")
        assert token.body == {"data": {"token": None}}
        assert "Access-Control-Allow-Origin" not in token.headers, "no other site's page reads it"
        assert (await demo.send("GET", f"/demo/sessions/{uuid.uuid4()}")).status == 503
        assert (await demo.send("GET", "/demo/sessions/42")).status == 400
        assert await collector.stop() == 0
        assert "not in production" in collector.log
    for path in ("/demo", "/demo/page.js", "/demo/token", f"/demo/sessions/{uuid.uuid4()}"):
        assert (await front.send("GET", path)).status == 404, "without DEMO=1"


def test_without_demo_its_code_is_not_loaded() -> None:
    """Nor the client of PostgreSQL, which a collector does not need."""
    program = (
        "import sys; from collector.process import pages;"
        "assert {page.path for page in pages({'DEMO': '0'}, None)} == {'/beacon.js'};"
        "print([name for name in sys.modules if 'demo' in name or 'asyncpg' in name])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
