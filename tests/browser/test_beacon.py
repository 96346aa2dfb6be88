"""The beacon in Chromium: what is a launch, what the page notices, and how a sign-in arrives.

`test_engines.py` has what may differ between engines, and beacon/test/ each rule by itself.
"""

import asyncio
import json

import pytest

from tests.browser.conftest import IN_README, README, Visit
from tests.browser.engines import Chromium
from tests.browser.street import hold, lose_answer
from tests.system import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

PRERENDER = '<script type="speculationrules">{"prerender":[{"urls":["/next"]}]}</script>'
STRICT = "default-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'; "
WATCH = """
    window.events = [];
    for (const name of ["DOMContentLoaded", "load"])
        addEventListener(name, () => events.push(name));
    addEventListener("unhandledrejection", (event) => events.push(String(event.reason)));
    document.addEventListener(
        "securitypolicyviolation", (event) => events.push(event.effectiveDirective));
"""


async def test_a_reload_is_another_launch_of_the_same_person(visit: Visit) -> None:
    visit.serve_tag()
    page = await visit.open()
    await visit.arrived(1)
    await page.reload()
    await visit.arrived(2)
    first, second = await visit.rows(2)
    assert first["id"] != second["id"]
    assert first["monthly_user_hash"] == second["monthly_user_hash"]


async def test_a_prerendered_page_is_a_launch_when_it_is_first_shown(
    unseen: Visit, chromium: Chromium
) -> None:
    """The page in front goes to it as soon as `/go` exists."""
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


async def test_a_page_whose_policy_forbids_the_request_goes_on(visit: Visit) -> None:
    assert visit.context is not None
    await visit.context.add_init_script(WATCH)
    visit.serve_tag(Content_Security_Policy=STRICT + f"script-src {visit.collector}")
    page = await visit.open()
    await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    events = set(await page.evaluate("events")) - {"load", "DOMContentLoaded"}
    assert events == {"connect-src"}, "no unhandled rejection"
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
    assert await page.evaluate("events") == ["DOMContentLoaded"]
    arrive.set()
    await page.wait_for_load_state("load")
    await visit.arrived(1)
    await visit.rows(1)


async def test_a_sign_in_upgrades_the_session_without_a_preflight_and_keeps_nothing(
    visit: Visit,
) -> None:
    """Nothing is kept on the device: no cookie, no storage, no cache."""
    visit.serve_app("beacon.start({ url });")
    page = await visit.open_and_count()
    token = visit.front.token("ada", "admin")
    await page.evaluate(f"beacon.upgrade({token!r})")
    await visit.arrived(2)
    (row,) = await visit.rows(1, upgraded=1)
    assert row["highest_role"] == "admin"
    start, upgrade = visit.collector_door.seen
    assert start.body == {"id": str(row["id"])}
    assert upgrade.method == "POST"
    assert upgrade.path == f"/web_api/v1/sessions/{row['id']}/upgrade"
    assert upgrade.body == {"token": token}
    assert upgrade.headers["Content-Type"] == "text/plain;charset=UTF-8"
    assert visit.context is not None
    assert await visit.context.cookies() == []
    assert await page.evaluate(
        "(async () => [localStorage.length, sessionStorage.length, window.name,"
        "(await caches.keys()).length, (await indexedDB.databases()).length])()"
    ) == [0, 0, "", 0, 0]


async def test_a_request_whose_answer_is_lost_is_sent_again_and_counts_once(visit: Visit) -> None:
    visit.serve_app("beacon.start({ url });")
    visit.collector_door.fates.extend([lose_answer, lose_answer])
    page = await visit.open()
    await visit.arrived(3)
    await visit.rows(1)
    assert len({request.body["id"] for request in visit.starts}) == 1
    visit.collector_door.fates.append(lose_answer)
    await page.evaluate(f"beacon.upgrade({visit.front.token()!r})")
    await visit.arrived(5)
    await visit.rows(1, upgraded=1)
    assert len(visit.starts) == 3


async def test_the_script_and_a_module_of_the_page_share_one_session(visit: Visit) -> None:
    """The two code blocks of the README for a plain page."""
    lines = f'import {{ upgrade }} from "{IN_README}/beacon.js";\nupgrade(token);'
    visit.serve_tag()
    page = await visit.open_and_count()
    token = visit.front.token()
    module = f"const token = {token!r};" + visit.from_readme(lines)
    await page.add_script_tag(content=module, type="module")
    await visit.arrived(2)
    await visit.rows(1, upgraded=1)
    assert len(visit.starts) == 1


async def test_a_front_end_that_keeps_no_id_is_served_as_before(visit: Visit) -> None:
    """The README's drop-in path: its two requests with a header, each after a preflight."""
    block = README.split("## Front-ends that call the collector already")[1]
    headers, start, upgrade = block.split("```js\n")[1].split("```")[0].splitlines()
    visit.page_door.add("/", "<!doctype html><title>A city</title>")
    page = await visit.open()

    async def run(line: str, token: str) -> int:
        call = line.replace(IN_README, visit.collector).rstrip(";")
        script = f"const token = {token}; {headers} return (await {call}).status;"
        return int(await page.evaluate(f"(async () => {{ {script} }})()"))

    assert await run(start, "undefined") == 201
    assert await run(upgrade, repr(visit.front.token("ada", "admin"))) == 202
    (row,) = await visit.rows(1, upgraded=1)
    assert row["highest_role"] == "admin"
    sent = [request.method for request in visit.collector_door.seen]
    assert sent == ["OPTIONS", "POST", "OPTIONS", "PATCH"]
    assert visit.collector_door.seen[1].headers["Authorization"] == "Bearer undefined"


async def test_a_front_end_whose_tools_add_headers_and_cookies_is_served(visit: Visit) -> None:
    """Tracing, `credentials`, a JSON Blob by `sendBeacon`, and pageviews: none may be blocked."""
    visit.page_door.add("/", "<!doctype html><title>A city</title>")
    page = await visit.open()
    traced = {
        "sentry-trace": "1-1-0",
        "baggage": "sentry-environment=production",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "x-requested-with": "XMLHttpRequest",
        "Authorization": "Bearer undefined",
        "Content-Type": "application/json",
    }
    options = json.dumps({"method": "POST", "headers": traced, "credentials": "include"})
    url = f"{visit.collector}/web_api/v1/sessions"
    status, session = await page.evaluate(
        f"(async () => {{ const answer = await fetch('{url}', {options});"
        " return [answer.status, (await answer.json()).data.id]; })()"
    )
    assert status == 201
    pageview = f"(await fetch('{url}/{session}/track_pageview', {options})).status"
    assert await page.evaluate(f"(async () => {pageview})()") == 204
    blob = "new Blob(['{}'], { type: 'application/json' })"
    assert await page.evaluate(f"navigator.sendBeacon('{url}', {blob})") is True
    rows = await eventually(visit.front.rows, lambda found: len(found) == 2)
    assert {row["highest_role"] for row in rows} == {None}
    await visit.rows(2)
