"""What counts as a launch: a page load, once somebody sees it."""

import uuid

import pytest
from playwright.async_api import Browser

from tests.browser.conftest import Visit
from tests.browser.engines import Chromium
from tests.system import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

PRERENDER = '<script type="speculationrules">{"prerender":[{"urls":["/next"]}]}</script>'


@pytest.mark.parametrize("same_origin", [False, True], ids=["cross-origin", "same-origin"])
async def test_a_launch_is_one_request_and_one_row(visit: Visit, same_origin: bool) -> None:  # noqa: FBT001 - pytest's way
    if same_origin:
        visit.collector_door = visit.page_door
    visit.serve_tag()
    await visit.open()
    await visit.arrived(1)
    (row,) = await visit.rows(1)
    (request,) = visit.collector_door.seen
    assert request.is_start, "no preflight, nothing else"
    assert request.headers["Content-Type"] == "text/plain;charset=UTF-8"
    assert request.headers["Sec-Fetch-Site"] == ("same-origin" if same_origin else "cross-site")
    assert "Cookie" not in request.headers
    assert request.body == {"id": str(row["id"])}
    assert (row["id"].version, row["id"].variant) == (4, uuid.RFC_4122)
    assert row["highest_role"] is None


async def test_a_reload_is_another_launch_of_the_same_person(visit: Visit) -> None:
    visit.serve_tag()
    page = await visit.open()
    await visit.arrived(1)
    await page.reload()
    await visit.arrived(2)
    first, second = await visit.rows(2)
    assert first["id"] != second["id"]
    assert first["monthly_user_hash"] == second["monthly_user_hash"]


async def test_calling_twice_and_changing_the_route_is_no_launch(visit: Visit) -> None:
    visit.serve_app("beacon.start({ url }); beacon.start({ url });")
    page = await visit.open()
    await visit.arrived(1)
    await page.evaluate("history.pushState({}, '', '/projects')")
    await page.evaluate("beacon.start({ url: document.baseURI })")
    await visit.rows(1)
    assert len(visit.collector_door.seen) == 1


async def test_a_tab_that_is_closed_unseen_is_no_launch(unseen: Visit, chromium: Chromium) -> None:
    unseen.serve_app("beacon.start({ url }); fetch('/web_api/loaded');")
    tab = await chromium.open(unseen.url, background=True)

    async def loaded() -> int:
        return len(unseen.page_door.seen)

    await eventually(loaded)
    await tab.close()
    await unseen.rows(0)
    assert unseen.collector_door.seen == []


async def test_a_prerendered_page_is_a_launch_when_it_is_first_shown(
    unseen: Visit, chromium: Chromium
) -> None:
    """The person goes to it once the page in front is told to, by an answer that is held."""
    unseen.page_door.add(
        "/",
        f"<!doctype html><title>A city</title>{PRERENDER}"
        "<script>const wait = () => fetch('/go').then((answer) => "
        "answer.ok ? (location = '/next') : setTimeout(wait, 20)); wait()</script>",
    )
    unseen.serve_app(
        "beacon.start({ url }); fetch('/web_api/ran?' + document.prerendering);"
        "document.addEventListener('prerenderingchange', () => fetch('/web_api/shown'));",
        "/next",
    )
    unseen.page_door.pages["/app.js"] = unseen.page_door.pages.pop("/nextapp.js")
    await chromium.open(unseen.url)

    async def ran() -> list[str]:
        return [request.path for request in unseen.page_door.seen]

    assert await eventually(ran) == ["/web_api/ran"]
    assert "/next prefetch;prerender" in unseen.page_door.opened
    await unseen.rows(0)
    assert unseen.starts == []

    unseen.page_door.add("/go", "")
    assert await eventually(ran, lambda paths: len(paths) == 2) == [
        "/web_api/ran",
        "/web_api/shown",
    ], "the prerendered page itself was shown, not loaded again"
    await unseen.arrived(1)
    await unseen.rows(1)
    assert len(unseen.starts) == 1


async def test_a_crawler_is_told_once_and_sends_no_more(unseen: Visit, browser: Browser) -> None:
    unseen.context = await browser.new_context()  # says that it is HeadlessChrome
    unseen.serve_app("beacon.start({ url });")
    page = await unseen.open_and_count()
    await page.evaluate(f"beacon.upgrade({unseen.front.token()!r})")
    await unseen.rows(0)
    await unseen.context.close()
    assert len(unseen.collector_door.seen) == 1
    assert unseen.faults == []
