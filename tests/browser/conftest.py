"""One system, one proxy and one browser of each kind a worker; two host names a test."""

import os
import shutil
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from contract.calendar import SECOND_US
from embedded.commands import sign_token
from runtime.clock import wall_clock
from tests.acceptance.conftest import CHROME, Front, front_of
from tests.browser.engines import Chromium
from tests.browser.street import Door, Street
from tests.servers import EMBEDDED, run_servers
from tests.system import JWT_KEY, ROOT, System, run_successfully, until

# Root has no sandbox; the rest keeps one.
_OPTIONS = ["--no-sandbox"] if os.geteuid() == 0 else []
README_PATH = ROOT / "beacon" / "README.md"
README = README_PATH.read_text()
IN_README = "https://impact.example.org"
TAG = f'<script type="module" async src="{IN_README}/beacon.js" data-impact-start></script>'


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Servers and processes that are these tests' alone, and end with the last of them."""
    folder = tmp_path_factory.mktemp("browser")
    token = sign_token(
        key=JWT_KEY, user="demo", role=None, now=wall_clock() // SECOND_US, minutes=60
    )
    demo = {"DEMO": "1", "DEMO_TOKEN": token}
    with (
        run_servers(EMBEDDED, folder) as servers,
        System(servers.redis.url, servers.postgres.dsn(), folder / "logs", demo) as system,
    ):
        await run_successfully("flusher", "migrate", **system.environment)
        await system.start("rotation", "collector", "flusher")
        yield system


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def street(system: System) -> AsyncIterator[Street]:
    async with Street(system) as street:
        yield street


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def front(system: System) -> AsyncIterator[Front]:
    async with front_of(system) as front:
        yield front


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    Chromium.require()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=_OPTIONS,
            # Playwright turns it off; people have it on.
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        await browser.close()


@dataclass
class Visit:
    """A site, the collector under a host name of its own, and a person's browser.

    The site's rows, and what its pages sent, are this test's alone.
    """

    street: Street
    front: Front  # reads the rows
    page_door: Door
    collector_door: Door
    context: BrowserContext | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.street.url(self.page_door.host)

    @property
    def collector(self) -> str:
        return self.street.url(self.collector_door.host)

    @property
    def starts(self) -> list[Any]:
        return self.collector_door.starts

    def from_readme(self, text: str) -> str:
        """Code of beacon/README.md, word for word, for this test's collector."""
        assert text in README, "the README says something else"
        return text.replace(IN_README, self.collector)

    def serve_tag(self, path: str = "/", **headers: str) -> None:
        """A page with the README's one line."""
        html = f"<!doctype html><title>A city</title>{self.from_readme(TAG)}"
        self.page_door.add(path, html, **headers)

    def serve_app(self, script: str = "", path: str = "/", **headers: str) -> None:
        """A page whose own module has the two calls, as `beacon` in its window."""
        self.page_door.add(
            f"{path}app.js",
            f'import * as beacon from "{self.collector}/beacon.js";'
            f"window.beacon = beacon; const url = {self.collector!r}; {script}",
            "text/javascript",
        )
        html = '<!doctype html><title>A city</title><script type="module" src="app.js"></script>'
        self.page_door.add(path, html, **headers)

    def serve_example(self, name: str) -> None:
        """A page of beacon/examples, word for word, for this test's collector."""
        html = (ROOT / "beacon" / "examples" / name).read_text()
        self.page_door.add("/", html.replace(IN_README, self.collector))

    async def open(self, path: str = "/") -> Page:
        """A tab with one of its pages."""
        page = await self.new_page()
        await page.goto(self.url + path)
        return page

    async def open_and_count(self, path: str = "/") -> Page:
        """As `open`, and the page has the collector's answer to its start."""
        page = await self.new_page()
        async with page.expect_response("**/sessions"):
            await page.goto(self.url + path)
        return page

    async def new_page(self) -> Page:
        """An empty tab."""
        assert self.context is not None
        page = await self.context.new_page()
        page.on("pageerror", lambda error: self.faults.append(f"thrown: {error}"))
        return page

    async def arrived(self, requests: int) -> None:
        """Waits for so many requests at the collector, preflights included."""
        await until(lambda: len(self.collector_door.seen) >= requests)

    async def rows(self, sessions: int, upgraded: int = 0) -> list[asyncpg.Record]:
        """The rows, once all that was sent has become what it becomes."""
        return await self.front.settled(sessions, upgraded)


@pytest_asyncio.fixture(loop_scope="session")
async def unseen(street: Street, front: Front) -> Visit:
    """A visit for which the test has a browser of its own."""
    name = uuid.uuid4().hex
    site = f"city-{name}.localhost"
    own = replace(front, site=site)
    return Visit(street, own, street.door(site), street.door(f"impact-{name}.localhost"))


@pytest_asyncio.fixture(loop_scope="session")
async def visit(unseen: Visit, browser: Browser) -> AsyncIterator[Visit]:
    """A visit by a Chrome with nothing in it. The page must see no error of ours."""
    context = await browser.new_context(user_agent=CHROME)
    unseen.context = context
    yield unseen
    await context.close()
    assert unseen.faults == []


@pytest_asyncio.fixture(loop_scope="session")
async def chromium(tmp_path: Path) -> AsyncIterator[Chromium]:
    """A Chromium of the test's own, to which nothing is attached."""
    async with Chromium.run_in(tmp_path) as chromium:
        yield chromium
