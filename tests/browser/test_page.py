"""What the page notices of the beacon: nothing."""

import asyncio

import pytest
from playwright.async_api import Page

from tests.browser.conftest import Visit
from tests.browser.street import hold

pytestmark = pytest.mark.asyncio(loop_scope="session")

STRICT = "default-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'; "
WATCH = """
    window.events = [];
    for (const name of ["DOMContentLoaded", "load"])
        addEventListener(name, () => events.push(name));
    addEventListener("unhandledrejection", (event) => events.push(String(event.reason)));
    document.addEventListener(
        "securitypolicyviolation", (event) => events.push(event.effectiveDirective));
"""


async def loaded(page: Page) -> list[str]:
    events: list[str] = await page.evaluate("events")
    return events


async def test_where_a_policy_forbids_it_the_page_goes_on(visit: Visit) -> None:
    assert visit.context is not None
    await visit.context.add_init_script(WATCH)
    visit.serve_tag(Content_Security_Policy=STRICT + f"script-src {visit.collector}")
    page = await visit.open()
    await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    violations = [
        event for event in await loaded(page) if event not in {"load", "DOMContentLoaded"}
    ]
    assert set(violations) == {"connect-src"}, "no unhandled rejection"
    await visit.rows(0)


async def test_a_script_that_hangs_does_not_hold_up_the_document(visit: Visit) -> None:
    """An async script holds the load event, as an image does, and nothing else."""
    assert visit.context is not None
    await visit.context.add_init_script(WATCH)
    visit.serve_tag()
    arrive = asyncio.Event()
    visit.collector_door.script_fate = hold(arrive)
    page = await visit.new_page()
    await page.goto(visit.url, wait_until="domcontentloaded")
    assert await loaded(page) == ["DOMContentLoaded"]
    arrive.set()
    await page.wait_for_load_state("load")
    await visit.arrived(1)
    await visit.rows(1)


async def test_nothing_is_kept_on_the_device(visit: Visit) -> None:
    visit.serve_app("beacon.start({ url });")
    page = await visit.open_and_count()
    await page.evaluate(f"beacon.upgrade({visit.front.token()!r})")
    await visit.arrived(2)
    await visit.rows(1, upgraded=1)
    assert visit.context is not None
    assert await visit.context.cookies() == []
    assert await page.evaluate(
        "(async () => [localStorage.length, sessionStorage.length, window.name,"
        "(await caches.keys()).length, (await indexedDB.databases()).length])()"
    ) == [0, 0, "", 0, 0]
