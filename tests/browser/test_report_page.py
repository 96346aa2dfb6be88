"""The report's page in a real browser: on any width, on paper, and for who can't see its plots."""

import itertools
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, ViewportSize

from contract.calendar import Month
from flusher.reports.html import as_html
from flusher.reports.report import Figures, make_report
from flusher.reports.report_lines import Counts, Quality, Report

# The browser is one for all of them.
pytestmark = pytest.mark.asyncio(loop_scope="session")

CURRENT = Month(2026, 11)
SITES = {
    "city.example.org": 900,
    "a-quite-long-name-of-a-municipality.example.org": 400,
    "small.example.org": 7,
}
WIDE, NARROW = 1000, 360
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")


def report(months: int, times: int = 1) -> Report:
    """Of that many months and three sites, with remarks."""
    shown = [CURRENT.plus(-number) for number in range(months)]
    salt = shown[min(2, months - 1)]
    replaced = Quality(
        comparable=False, salts_replaced=1, salt_replaced_on=salt.first_day + timedelta(days=8)
    )
    quality = {
        month: dict.fromkeys(SITES, replaced if month == salt else Quality(month != CURRENT))
        for month in shown
    }
    counts = {month: {site: counted(n * times) for site, n in SITES.items()} for month in shown}
    made_at = datetime(2026, 11, 29, 12, tzinfo=UTC)
    return make_report(Figures(counts, quality, CURRENT), None, months, "UTC", made_at)


def counted(people: int) -> Counts:
    users = people // 4
    return Counts(2 * people, people, people - users, people // 2, users)


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser) -> AsyncIterator[Page]:
    context = await browser.new_context(viewport=size(WIDE))
    yield await context.new_page()
    await context.close()


def size(width: int) -> ViewportSize:
    return {"width": width, "height": 800}


async def test_axe_finds_no_violation(tab: Page) -> None:
    """On each width, light and dark, with its tables shown."""
    await tab.set_content(as_html(report(12)))
    await tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    for width in (WIDE, NARROW):
        await tab.set_viewport_size(size(width))
        for scheme in SCHEMES:
            await tab.emulate_media(color_scheme=scheme)
            found = await Axe().run(tab)
            assert found.violations_count == 0, (width, scheme, found.generate_report())


async def test_nothing_is_cut_off_and_no_label_lies_on_another(tab: Page) -> None:
    """On each width. Of millions, too, whose numbers are long."""
    for months, times in itertools.product((1, 2, 5, 12, 13, 37, 60), (1, 9_000)):
        await tab.set_content(as_html(report(months, times)))
        for width in (WIDE, 900, 640, NARROW):
            where = (months, times, width)
            await tab.set_viewport_size(size(width))
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width, where
            places = await tab.evaluate(
                """[...document.querySelectorAll('.months')].map(plot => [...plot.children]
                .filter(each => getComputedStyle(each).display != 'none')
                .map(each => each.getBoundingClientRect()).map(each => [each.left, each.right]))"""
            )
            assert len(places) == 2, where
            for plot in places:
                assert 1 <= len(plot) <= 12, where
                edges = [edge for label in plot for edge in label]
                assert edges == sorted(edges), where
                assert edges[0] >= 0, where
                assert edges[-1] <= width, where


async def test_it_prints_on_one_page_with_its_legend(tab: Page) -> None:
    for months in (1, 12, 60):
        await tab.emulate_media(media="null")  # as it is printed
        await tab.set_content(as_html(report(months)))
        printed = await tab.pdf(prefer_css_page_size=True)
        assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1, months
        await tab.emulate_media(media="print")
        assert await tab.locator(".legend").first.is_visible(), months


async def test_bars_stand_out_from_the_page_and_from_each_other(tab: Page) -> None:
    """Three to one (WCAG 2.2, 1.4.11)."""
    await tab.set_content(as_html(report(12)))
    pages = []
    for scheme in SCHEMES:
        await tab.emulate_media(color_scheme=scheme)
        colours = [
            await tab.evaluate(
                "([query, name]) => getComputedStyle(document.querySelector(query))[name]", where
            )
            for where in (
                ("body", "backgroundColor"),
                ("rect.users:not(.unfinished)", "fill"),
                ("rect.visitors:not(.unfinished)", "fill"),
                ("rect.visitors.unfinished", "stroke"),
            )
        ]
        page, users, visitors, outline = map(luminance, colours)
        for one, other in ((page, users), (page, visitors), (users, visitors), (page, outline)):
            assert contrast(one, other) >= 3, (scheme, colours)
        pages.append(page)
    assert pages[0] > pages[1], "light, and dark"


async def test_its_tables_open_by_the_keyboard(tab: Page) -> None:
    await tab.set_content(as_html(report(12)))
    assert not await tab.locator("details table").first.is_visible()
    await tab.keyboard.press("Tab")
    await tab.keyboard.press("Enter")
    assert await tab.locator("details table").first.is_visible()


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
