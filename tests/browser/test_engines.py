"""One table of behaviours for all engines: what each does with the beacon, by rows and requests.

It must be what the table in beacon/README.md says (`tests/browser/table.py`).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from tests.browser.conftest import IN_README, README, README_PATH, Visit
from tests.browser.engines import ENGINES, Chromium, Engine, Tab
from tests.browser.street import Fate, answer_503, hold
from tests.browser.table import Table

pytestmark = pytest.mark.asyncio(loop_scope="session")

See = Callable[[str, str], None]
"""Takes what was done and what was seen."""

OTHER = "<!doctype html><title>Another</title>"
STRICT = "default-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'; "
BY_A_TAG_MANAGER = """<script>
    const tag = document.createElement("script");
    tag.textContent = {!r};
    const insert = () => {{ document.head.append(tag); tag.remove(); }};
    addEventListener("load", () => setTimeout(insert));
</script>"""
PRIVACY_CONTROL = (
    "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', { get: () => true });"
)
NEXT_TRY_IN_A_MINUTE = "Math.random = () => 60;"
# As in a Firefox before 133: its fetch ends with the page.
NO_KEEPALIVE = "delete Request.prototype.keepalive;"


@pytest_asyncio.fixture(
    scope="package",
    loop_scope="session",
    params=[
        pytest.param(each, id=each.name, marks=() if each is Chromium else pytest.mark.engines)
        for each in ENGINES
    ],
)
async def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Engine]:
    """One of each a worker."""
    chosen: type[Engine] = request.param
    async with chosen.run_in(tmp_path_factory.mktemp(chosen.name)) as engine:
        yield engine


@pytest.fixture(scope="session")
def table() -> Iterator[Table]:
    table = Table(README_PATH)
    yield table
    table.write()


@pytest.fixture
def see(table: Table, engine: Engine) -> See:
    return lambda what, seen: table.compare(what, engine.name, engine.version, seen)


class Person:
    """Opens a visit's pages in an engine, and leaves them."""

    def __init__(self, visit: Visit, engine: Engine) -> None:
        self._visit = visit
        self._engine = engine
        self._opened: list[Tab] = []
        visit.page_door.add("/other", OTHER)

    async def open(self, path: str = "/", *, background: bool = False) -> Tab:
        tab = await self._engine.open(self._visit.url + path, background=background)
        self._opened.append(tab)
        return tab

    async def close(self, tab: Tab) -> None:
        self._opened.remove(tab)
        await tab.close()

    async def close_all(self) -> None:
        while self._opened:
            await self._opened.pop().close()

    async def open_unanswered(self, path: str = "/") -> Tab:
        """Its start has been sent, and never comes to the collector."""
        self.never_answer(1)
        sent = len(self._visit.starts)
        tab = await self.open(path)
        await self._visit.arrived(sent + 1)
        await tab.loaded()
        return tab

    def never_answer(self, requests: int) -> asyncio.Event:
        """The next requests are held until the event comes."""
        until = asyncio.Event()
        fates: list[Fate] = [hold(until)] * requests
        self._visit.collector_door.fates.extend(fates)
        return until

    async def leave(self, tab: Tab) -> None:
        """For another page of the site."""
        await tab.go(f"{self._visit.url}/other")
        await tab.until("document.title == 'Another'")

    async def come_back(self, tab: Tab) -> None:
        """To a page that was kept, not loaded again."""
        loaded = len(self._visit.page_door.opened)
        await tab.back()
        await tab.until("document.title == 'A city'")
        assert len(self._visit.page_door.opened) == loaded, "the page was not kept"


@pytest_asyncio.fixture(loop_scope="session")
async def person(unseen: Visit, engine: Engine) -> AsyncIterator[Person]:
    person = Person(unseen, engine)
    yield person
    await person.close_all()


def in_words(rows: list[asyncpg.Record]) -> str:
    """The row, in the words of the table."""
    (row,) = rows
    return "1 row" if row["highest_role"] is None else "1 row, a user's"


async def test_a_launch(unseen: Visit, person: Person, see: See) -> None:
    policy = f"script-src {IN_README}; connect-src {IN_README}"
    unseen.serve_tag(Content_Security_Policy=STRICT + unseen.from_readme(policy))
    await person.open()
    await unseen.arrived(1)
    (row,) = await unseen.rows(1)
    (request,) = unseen.collector_door.seen
    assert request.is_start, "no preflight"
    assert request.headers["Content-Type"] == "text/plain;charset=UTF-8"
    assert request.body == {"id": str(row["id"])}
    assert (row["id"].version, row["highest_role"]) == (4, None)
    assert "Cookie" not in request.headers
    see("a launch from the tag, under a strict Content-Security-Policy", "1 request, 1 row")


async def test_a_hanging_collector_holds_up_no_page(
    unseen: Visit, person: Person, see: See
) -> None:
    unseen.serve_tag()
    answer = person.never_answer(1)
    tab = await person.open()
    await unseen.arrived(1)
    await tab.loaded()
    assert not answer.is_set()
    answer.set()
    await unseen.rows(1)
    see("the collector hangs: the page's `load`", "comes")


@pytest.mark.parametrize(
    ("page", "what"),
    [
        (
            "<script>{}</script>",
            "the script hangs, imported as [here](#the-pages-load): the page's `load`",
        ),
        (
            BY_A_TAG_MANAGER,
            "the same by a tag manager, which takes its element away",
        ),
    ],
    ids=["in the page", "by a tag manager"],
)
async def test_a_script_that_hangs_and_is_imported_late_holds_up_nothing(
    unseen: Visit, person: Person, see: See, page: str, what: str
) -> None:
    """The README's lines for pages to which the load event matters, and for tag managers."""
    lines = README.split("delays nothing in any engine:\n\n```js\n")[1].split("```")[0]
    unseen.page_door.add("/", OTHER + page.format(unseen.from_readme(lines)))
    arrive = asyncio.Event()
    unseen.collector_door.script_fate = hold(arrive)
    tab = await person.open()
    await tab.loaded()
    assert not arrive.is_set()
    arrive.set()
    await unseen.rows(1)
    see(what, "comes")


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("beacon.start({ url: url.replace('http://', '') });", "`url` without a scheme"),
        (
            "beacon.start({ url, token: 't'.repeat(20000) });",
            "a token beyond 16 KiB, as a visitor's",
        ),
        (
            PRIVACY_CONTROL + "beacon.start({ url, respectOptOut: 'false' });",
            '`data-respect-opt-out="false"`, with Global Privacy Control',
        ),
    ],
    ids=["url", "token", "opt-out"],
)
async def test_options_with_a_usual_mistake_work_as_intended(
    unseen: Visit, person: Person, see: See, call: str, what: str
) -> None:
    unseen.serve_app(call)
    await person.open()
    see(what, in_words(await unseen.rows(1)))


async def test_a_background_tab_is_a_launch_when_it_is_shown(
    unseen: Visit, person: Person, see: See
) -> None:
    unseen.serve_app("beacon.start({ url });")
    front = await person.open("/other")
    await front.until("document.title == 'Another' && !document.hidden")
    tab = await person.open(background=True)
    await tab.loaded()
    assert await tab.run("document.visibilityState") == "hidden"
    await unseen.rows(0)
    assert unseen.starts == []
    await tab.show()
    await unseen.arrived(1)
    await unseen.rows(1)
    await tab.hide()
    await tab.until("document.hidden")
    await tab.show()
    await tab.until("!document.hidden")
    assert len(unseen.starts) == 1
    see("a background tab", "1 row, once it is shown")


@pytest.mark.parametrize("policy", ["no-referrer", "same-origin"])
@pytest.mark.parametrize(
    ("before", "what"),
    [
        ("", "`Referrer-Policy: {}`, left before the answer"),
        (NO_KEEPALIVE, "the same without `keepalive` (`{}`)"),
    ],
    ids=["keepalive", "no keepalive"],
)
async def test_a_page_that_hides_its_address_is_left_before_the_answer(
    unseen: Visit, person: Person, see: See, policy: str, before: str, what: str
) -> None:
    """The row is found by its site: it is the page's, and not the collector's."""
    unseen.serve_app(before + "beacon.start({ url });", Referrer_Policy=policy)
    tab = await person.open_unanswered()
    await person.leave(tab)
    await unseen.arrived(2)
    if not before:
        assert [request.headers["Origin"] for request in unseen.starts] == [unseen.url] * 2
    see(what.format(policy), in_words(await unseen.rows(1)))


async def test_what_a_plain_send_beacon_says(unseen: Visit, person: Person, see: See) -> None:
    """Why the module uses another way: a fact of the engines."""
    unseen.page_door.add("/", OTHER, Referrer_Policy="no-referrer")
    tab = await person.open()
    await tab.until("document.title == 'Another'")
    url = f"{unseen.collector}/web_api/v1/sessions"
    assert await tab.run(f"navigator.sendBeacon({url!r}, '{{}}')") is True
    await unseen.arrived(1)
    origin = unseen.starts[0].headers["Origin"]
    see(
        "`Origin` of a plain `sendBeacon` there",
        "the page's" if origin == unseen.url else f"`{origin}`",
    )


async def test_what_leaves_with_the_page_carries_no_cookie(
    unseen: Visit, person: Person, see: See
) -> None:
    unseen.collector_door = unseen.page_door
    unseen.serve_tag(Set_Cookie="person=ada")
    tab = await person.open_unanswered()
    assert await tab.run("document.cookie") == "person=ada"
    await person.leave(tab)
    await unseen.rows(1)
    assert [request.headers.get("Cookie") for request in unseen.starts] == [None, None]
    see("a collector of the page's own origin, left before the answer", "1 row, no cookie sent")


async def test_a_page_that_comes_back_is_no_launch(unseen: Visit, person: Person, see: See) -> None:
    unseen.serve_app("beacon.start({ url });")
    tab = await person.open()
    await unseen.rows(1)
    await person.leave(tab)
    await person.come_back(tab)
    await unseen.rows(1)
    assert len(unseen.collector_door.seen) == 1
    see("back to the page (back/forward cache)", "no launch")


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("never", "left before the answer, which never comes; back, sign-in"),
        ("while away", "left before the answer, which comes meanwhile; back, sign-in"),
    ],
    ids=["never", "while away"],
)
async def test_a_page_that_comes_back_goes_on(
    unseen: Visit, person: Person, see: See, answer: str, what: str
) -> None:
    """What an engine lets hang in its back/forward cache is sent again, and so is what follows."""
    unseen.serve_app("beacon.start({ url });")
    # The first one, and the copy that leaves with the page.
    until = person.never_answer(2)
    tab = await person.open()
    await unseen.arrived(1)
    await tab.loaded()
    await person.leave(tab)
    if answer == "while away":
        until.set()
        await unseen.rows(1)
    await person.come_back(tab)
    await tab.run(f"beacon.upgrade({unseen.front.token('ada', 'user')!r})")
    see(what, in_words(await unseen.rows(1, upgraded=1)))


async def test_a_sign_in_before_the_answer_leaves_with_the_page(
    unseen: Visit, person: Person, see: See
) -> None:
    unseen.serve_app("beacon.start({ url });")
    tab = await person.open_unanswered()
    await tab.run(f"beacon.upgrade({unseen.front.token('ada', 'user')!r})")
    await person.leave(tab)
    see("sign-in before the answer, then left", in_words(await unseen.rows(1, upgraded=1)))


async def test_a_private_window_that_is_hidden_and_killed_between_two_tries(
    unseen: Visit, engine: Engine, see: See, tmp_path: Path
) -> None:
    """No event comes before SIGKILL: telephones do that to hidden pages."""
    unseen.serve_app(NEXT_TRY_IN_A_MINUTE + "beacon.start({ url });")
    unseen.collector_door.fates.append(answer_503)
    async with engine.run_in(tmp_path, engine.private) as private:
        others = private.pages()
        tab = await private.open(unseen.url)
        await unseen.arrived(1)
        await tab.loaded()
        await tab.hide()
        await unseen.arrived(2)
        page = private.pages() - others
        assert page
        for process in page:
            process.kill()
        see("private window, `503`, hidden, killed", in_words(await unseen.rows(1)))
    assert len(unseen.starts) == 2


async def test_a_service_worker_drops_nothing(
    unseen: Visit, engine: Engine, person: Person, see: See
) -> None:
    """Firefox drops what `sendBeacon` sends as the page is closed. Chromium gives such a page half
    a second, which is too little on a machine with much to do: there it is left.
    """
    leave = person.leave if isinstance(engine, Chromium) else person.close
    unseen.page_door.add(
        "/worker.js",
        "addEventListener('fetch', (event) => event.respondWith(fetch(event.request)));"
        "addEventListener('activate', (event) => event.waitUntil(clients.claim()));",
        "text/javascript",
    )
    unseen.page_door.add(
        "/", OTHER + "<script>navigator.serviceWorker.register('/worker.js')</script>"
    )
    unseen.serve_app("beacon.start({ url });", "/app/")
    first = await person.open()
    await first.until("navigator.serviceWorker.controller != null")
    for launch in range(1, 4):
        app = await person.open_unanswered("/app/")
        await leave(app)
        await unseen.arrived(2 * launch)
    await unseen.rows(3)
    see("service worker, three pages left or closed before the answer", "3 rows")


async def test_without_a_network_and_with_one_again(
    unseen: Visit, person: Person, see: See
) -> None:
    """The connection is refused. An event says when there is a network again."""
    unseen.serve_app(
        "const ask = fetch; window.refused = 0;"
        "window.fetch = (...how) => {"
        " const asked = ask(...how); asked.catch(() => refused++); return asked; };"
        + NEXT_TRY_IN_A_MINUTE
    )
    tab = await person.open()
    await tab.until("!!window.beacon")
    async with unseen.street.closed():
        await tab.run(f"beacon.start({{ url: {unseen.collector!r} }})")
        await tab.until("refused == 1")
    await tab.run("dispatchEvent(new Event('online'))")
    await unseen.arrived(1)
    see("no network, then one again", in_words(await unseen.rows(1)))


async def test_the_example_of_a_router(unseen: Visit, person: Person, see: See) -> None:
    unseen.serve_example("router.html")
    unseen.page_door.add(
        "/sign-in", json.dumps({"token": unseen.front.token("ada", "user")}), "application/json"
    )
    tab = await person.open()
    await unseen.rows(1)
    for route in ("/events", "/projects"):
        await tab.run(f"document.querySelector('a[href={json.dumps(route)}]').click()")
        assert await tab.run("document.querySelector('main').textContent") == route
    await tab.run("document.querySelector('button').click()")
    rows = await unseen.rows(1, upgraded=1)
    see("[a router](examples/router.html), two routes, sign-in", in_words(rows))


async def test_the_example_that_asks_first(unseen: Visit, person: Person, see: See) -> None:
    unseen.serve_example("consent.html")
    tab = await person.open()
    await tab.loaded()
    await unseen.rows(0)
    assert unseen.collector_door.seen == []
    await tab.run("document.querySelector('button').click()")
    see("[a yes is asked for](examples/consent.html), and given", in_words(await unseen.rows(1)))
