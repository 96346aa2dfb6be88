"""A sign-in makes the session the user's, whenever it comes."""

import asyncio
import json

import pytest

from tests.browser.conftest import IN_README, README, Visit
from tests.browser.street import hold, lose_answer
from tests.system import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_sign_in_upgrades_the_session_without_a_preflight(visit: Visit) -> None:
    visit.serve_app("beacon.start({ url });")
    page = await visit.open_and_count()
    token = visit.front.token("ada", "admin")
    await page.evaluate(f"beacon.upgrade({token!r})")
    await visit.arrived(2)
    (row,) = await visit.rows(1, upgraded=1)
    assert row["highest_role"] == "admin"
    start, upgrade = visit.collector_door.seen
    assert start.body == {"id": str(row["id"])}
    assert (upgrade.method, upgrade.path) == (
        "POST",
        f"/web_api/v1/sessions/{row['id']}/upgrade",
    )
    assert upgrade.body == {"token": token}
    assert upgrade.headers["Content-Type"] == "text/plain;charset=UTF-8"


async def test_the_script_and_a_module_of_the_page_share_one_session(visit: Visit) -> None:
    """The two code blocks of the README for a plain page."""
    lines = f'import {{ upgrade }} from "{IN_README}/beacon.js";\nupgrade(token);'
    assert lines in README
    visit.serve_tag()
    page = await visit.open_and_count()
    token = visit.front.token()
    module = f"const token = {token!r};" + visit.from_readme(lines)
    await page.add_script_tag(content=module, type="module")
    await visit.arrived(2)
    await visit.rows(1, upgraded=1)
    assert len(visit.starts) == 1


async def test_a_sign_in_before_the_answer_is_sent_after_it(visit: Visit) -> None:
    visit.serve_app("beacon.start({ url });")
    answer = asyncio.Event()
    visit.collector_door.fates.append(hold(answer))
    page = await visit.open()
    await visit.arrived(1)
    await page.evaluate(f"beacon.upgrade({visit.front.token()!r})")
    await page.evaluate("new Promise((resolve) => setTimeout(resolve))")
    assert len(visit.collector_door.seen) == 1
    answer.set()
    await visit.arrived(2)
    await visit.rows(1, upgraded=1)


async def test_a_sign_in_before_the_start_is_sent_after_it(visit: Visit) -> None:
    visit.serve_app(f"beacon.upgrade({visit.front.token()!r}); beacon.start({{ url }});")
    await visit.open()
    await visit.arrived(2)
    await visit.rows(1, upgraded=1)
    assert [request.is_start for request in visit.collector_door.seen] == [True, False]


async def test_a_refused_token_leaves_the_way_open_and_an_accepted_one_ends_it(
    visit: Visit,
) -> None:
    visit.serve_app("beacon.start({ url });")
    page = await visit.open_and_count()
    expired, good = visit.front.token(exp=1), visit.front.token("ada", "admin")
    other = visit.front.token("bob", "user")
    for token in ("undefined", repr(expired), repr(good), repr(good), repr(other)):
        await page.evaluate(f"beacon.upgrade({token})")
    await visit.arrived(3)
    (row,) = await visit.rows(1, upgraded=1)
    assert row["highest_role"] == "admin"
    tokens = [request.body["token"] for request in visit.collector_door.seen[1:]]
    assert tokens == [expired, good]


async def test_an_upgrade_whose_answer_is_lost_is_sent_again(visit: Visit) -> None:
    visit.serve_app("beacon.start({ url });")
    page = await visit.open_and_count()
    visit.collector_door.fates.append(lose_answer)
    await page.evaluate(f"beacon.upgrade({visit.front.token()!r})")
    await visit.arrived(3)
    (row,) = await visit.rows(1, upgraded=1)
    assert row["upgraded_at"] is not None


async def test_who_is_signed_in_already_is_a_user_from_the_start(visit: Visit) -> None:
    visit.serve_app(f"beacon.start({{ url, token: {visit.front.token('ada', 'admin')!r} }});")
    await visit.open()
    await visit.arrived(1)
    (row,) = await visit.rows(1)
    assert row["highest_role"] == "admin"
    assert len(visit.collector_door.seen) == 1


async def test_a_front_end_that_keeps_no_id_is_served_as_before(visit: Visit) -> None:
    """The README's drop-in path: its two requests with a header, each after a preflight."""
    block = README.split("## Front-ends that call the collector already")[1]
    headers, start, upgrade = block.split("```js\n")[1].split("```")[0].splitlines()
    visit.page_door.add("/", "<!doctype html><title>A city</title>")
    page = await visit.open()

    async def run(line: str, token: str | None) -> int:
        said = "undefined" if token is None else repr(token)
        call = line.replace(IN_README, visit.collector)
        return int(
            await page.evaluate(
                f"(async () => {{ const token = {said}; {headers} "
                f"return (await {call.rstrip(';')}).status; }})()"
            )
        )

    assert await run(start, None) == 201
    assert await run(upgrade, visit.front.token("ada", "admin")) == 202
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
    started = await page.evaluate(
        f"(async () => {{ const answer = await fetch('{visit.collector}/web_api/v1/sessions', "
        f"{options}); return [answer.status, (await answer.json()).data.id]; }})()"
    )
    assert started[0] == 201
    pageview = f"{visit.collector}/web_api/v1/sessions/{started[1]}/track_pageview"
    status = f"(async () => (await fetch('{pageview}', {options})).status)()"
    assert await page.evaluate(status) == 204
    blob = "new Blob(['{}'], { type: 'application/json' })"
    beacon = f"navigator.sendBeacon('{visit.collector}/web_api/v1/sessions', {blob})"
    assert await page.evaluate(beacon) is True
    rows = await eventually(visit.front.rows, lambda found: len(found) == 2)
    assert {row["highest_role"] for row in rows} == {None}
    await visit.rows(2)
