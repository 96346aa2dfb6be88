"""What the collector serves besides its endpoints: the beacon, and a demo where asked to."""

import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

from collector.http.beacon import SOURCE, without_comments
from tests.acceptance.conftest import SESSIONS, Front
from tests.system import ROOT, System, find_free_port

MODULE = without_comments(SOURCE.read_text())


async def test_the_module_is_served_to_pages_of_any_origin(front: Front) -> None:
    answer = await front.send("GET", "/beacon.js")
    assert (answer.status, answer.body) == (200, MODULE)
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Access-Control-Allow-Origin"] == "*", "one copy in a cache serves all"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert "max-age=" in answer.headers["Cache-Control"]


async def test_who_has_the_module_is_told_so(front: Front) -> None:
    first = await front.send("GET", "/beacon.js")
    etag = first.headers["ETag"]
    again = await front.send("GET", "/beacon.js", headers={"If-None-Match": etag})
    assert (again.status, again.body) == (304, "")
    for name in ("ETag", "Cache-Control", "Vary", "Access-Control-Allow-Origin"):
        assert again.headers[name] == first.headers[name]
    other = await front.send("GET", "/beacon.js", headers={"If-None-Match": 'W/"another"'})
    assert other.status == 200


async def test_head_says_what_get_would(front: Front) -> None:
    answer = await front.send("HEAD", "/beacon.js", headers={"Accept-Encoding": "identity"})
    assert (answer.status, answer.body) == (200, "")
    assert int(answer.headers["Content-Length"]) == len(MODULE.encode())
    assert "ETag" in answer.headers
    assert (await front.send("POST", "/beacon.js")).status == 405


async def test_the_module_is_compressed_for_those_who_can_read_it(front: Front) -> None:
    for accepted, encoding in (
        *(("gzip, br", "gzip"), ("identity", None), ("", None), ("br, GZIP;q=0.5", "gzip")),
        *(("gzip;q=0", None), ("gzip; q=0.000, *", None), ("*", "gzip"), ("*;q=0", None)),
        *(("gzip;q=0.001", "gzip"), ("notgzip", None)),
    ):
        answer = await front.send("GET", "/beacon.js", headers={"Accept-Encoding": accepted})
        assert answer.headers.get("Content-Encoding") == encoding
        assert answer.body == MODULE


async def test_requests_for_pages_balance(front: Front) -> None:
    collector = next(one for one in front.system.programs if one.module == "collector")
    for path in ("/beacon.js", "/beacon.js", "/nothing", SESSIONS):
        await front.send("POST" if path == SESSIONS else "GET", path)
    metrics = await collector.metrics()

    def total(name: str) -> float:
        return sum(value for key, value in metrics.items() if key.startswith(name))

    assert total('impact_requests_total{route="page"') >= 2
    assert metrics['impact_ignored_total{reason="page"}'] >= 2
    ends = ("accepted", "ignored", "rejected", "failed")
    assert total("impact_requests_total{") == sum(total(f"impact_{end}_total") for end in ends)


async def test_the_demo_says_what_it_can_not_show(front: Front, tmp_path: Path) -> None:
    """Without a token for its user, and without the database."""
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


async def test_without_demo_there_is_no_demo(front: Front) -> None:
    for path in ("/demo", "/demo/page.js", "/demo/token", f"/demo/sessions/{uuid.uuid4()}"):
        assert (await front.send("GET", path)).status == 404


def test_without_demo_its_code_is_not_loaded() -> None:
    """Nor the client of PostgreSQL, which a collector has no use for."""
    program = (
        "import sys; from collector.endpoints import demo_pages;"
        "assert demo_pages({'DEMO': '0'}, None) == () == demo_pages({}, None);"
        "print([name for name in sys.modules if 'demo' in name or 'asyncpg' in name])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
