"""A start gets through what goes wrong between browser and collector, and counts once."""

import pytest

from tests.browser.conftest import Visit
from tests.browser.street import Door, answer_503, lose_answer
from tests.system import Program, System, eventually, find_free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")


def ids(door: Door) -> set[str]:
    """Of all starts that were sent."""
    return {request.body["id"] for request in door.starts}


async def test_a_page_that_is_closed_between_two_tries_is_counted(visit: Visit) -> None:
    """No request is on its way when the page goes: the last one leaves with it."""
    visit.serve_app("Math.random = () => 60; beacon.start({ url });")  # the next try: in a minute
    visit.collector_door.fates.append(answer_503)
    page = await visit.open_and_count()
    await page.close()
    await visit.arrived(2)
    await visit.rows(1)
    refused, last = visit.starts
    assert refused.body == last.body
    assert last.headers["Content-Type"] == "text/plain;charset=UTF-8"
    assert len(visit.collector_door.seen) == 2, "no preflight before it, either"


async def test_a_lost_answer_is_sent_again_and_counted_once(visit: Visit) -> None:
    visit.serve_tag()
    visit.collector_door.fates.extend([lose_answer, lose_answer])
    await visit.open()
    await visit.arrived(3)
    await visit.rows(1)
    assert len(visit.starts) == 3
    assert len(ids(visit.collector_door)) == 1


async def test_a_503_is_sent_again_after_the_time_it_asks_for(visit: Visit) -> None:
    """The time is a header that a page of another origin has to be allowed to read."""
    visit.serve_app(
        "const later = setTimeout; window.pauses = [];"
        "window.setTimeout = (run, pause) => {"
        " if (pause === 20000) return later(run, pause);"  # how long an answer may take
        " pauses.push(pause); return later(run, 0); };"
        "beacon.start({ url });"
    )
    visit.collector_door.fates.append(answer_503)
    page = await visit.open()
    await visit.arrived(2)
    await visit.rows(1)
    (pause,) = await page.evaluate("pauses")
    assert 2000 <= pause <= 3000


async def test_a_start_without_a_network_is_sent_when_it_is_back(visit: Visit) -> None:
    visit.serve_app("Math.random = () => 60;")
    page = await visit.open()
    assert visit.context is not None
    await visit.context.set_offline(True)
    async with page.expect_event("requestfailed"):
        await page.evaluate(f"beacon.start({{ url: {visit.collector!r} }})")
    assert visit.starts == []
    await visit.context.set_offline(False)
    await visit.arrived(1)
    await visit.rows(1)
    assert len(visit.starts) == 1


async def test_a_start_while_the_collector_is_down_is_counted_when_it_is_up(
    visit: Visit, system: System
) -> None:
    """A second collector, which the browser reaches without anything in between."""
    port = find_free_port()
    collector: Program = system.program("collector", PORT=str(port))
    visit.serve_app()
    page = await visit.open()
    address = f"http://127.0.0.1:{port}"
    async with page.expect_event("requestfailed"):
        await page.evaluate(f"beacon.start({{ url: {address!r} }})")
    await visit.rows(0)
    collector.start()
    try:
        rows = await eventually(visit.front.rows, seconds=30)
        await collector.ready()
        (row,) = await visit.rows(1)
        assert rows == [row]
        accepted = (await collector.metrics())['impact_accepted_total{kind="session"}']
        assert accepted == 1
    finally:
        assert await collector.stop() == 0
