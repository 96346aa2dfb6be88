"""The demo page, as a person uses it."""

import uuid

import pytest
from playwright.async_api import Browser, Page, expect

from tests.acceptance.conftest import CHROME
from tests.browser.conftest import Visit
from tests.system import System

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def shown_row(page: Page) -> dict[str, str]:
    """The columns that the page shows, as texts."""
    cells = await page.locator("[data-column]").all()
    return {str(await cell.get_attribute("data-column")): await cell.inner_text() for cell in cells}


async def stored_row(visit: Visit, session: str) -> dict[str, str]:
    columns = await visit.front.database.fetch(
        "SELECT columns.* FROM sessions, json_each_text(row_to_json(sessions)) AS columns "
        "WHERE id = $1",
        uuid.UUID(session),
    )
    return {column["key"]: column["value"] or "empty" for column in columns}


async def test_the_demo_shows_the_row_before_and_after_a_sign_in(
    visit: Visit, system: System, browser: Browser
) -> None:
    address = f"http://{visit.page_door.host}:{system.port}/demo"
    page = await visit.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    await page.goto(address)
    sign_in = page.get_by_role("button", name="Sign in as the demo user")
    await expect(sign_in).to_be_enabled(timeout=60_000)
    before = await shown_row(page)
    assert before == await stored_row(visit, before["id"])
    assert before["site"] == visit.page_door.host
    assert before["highest_role"] == before["upgraded_at"] == "empty"

    await sign_in.click()
    await expect(page.get_by_role("status")).to_contain_text("Signed in", timeout=60_000)
    after = await shown_row(page)
    assert after == await stored_row(visit, before["id"])
    assert after["highest_role"] == "user"
    assert after["monthly_user_hash"] != before["monthly_user_hash"]
    assert after["created_at"] == before["created_at"]
    assert await page.locator("#requests li").count() == 2

    narrow = await browser.new_page(user_agent=CHROME, viewport={"width": 320, "height": 640})
    await narrow.goto(address)
    assert await narrow.evaluate("document.documentElement.scrollWidth") <= 320
    await narrow.close()
    assert complaints == [], "also none of its Content-Security-Policy"
