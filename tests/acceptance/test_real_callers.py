"""Real front-ends, tokens, proxies and crawlers, over real HTTP to the row or to its absence."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from collector.request.address_check import WINDOW
from tests.acceptance.conftest import CHROME, SESSIONS, Front, front_of, start_all
from tests.counted import sign_in_counts
from tests.servers import EMBEDDED, run_servers
from tests.system import JWT_KEY, Program, System, eventually

FLAVOURS = [EMBEDDED]  # what becomes of a stored session is tested on all in test_sessions


@pytest.fixture(scope="module")
def system_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """For collectors with settings of their own: what they accept is in no other's metrics."""
    folder = tmp_path_factory.mktemp("apart")
    with (
        run_servers(EMBEDDED, folder) as servers,
        System(servers.redis.url, servers.postgres.dsn(), folder / "logs") as system,
    ):
        asyncio.run(start_all(system, "rotation", "flusher"))
        yield system


@pytest.fixture
async def apart(system_apart: System) -> AsyncIterator[Front]:
    async with front_of(system_apart) as front:
        yield front


@asynccontextmanager
async def another_collector(
    front: Front, folder: Path, **settings: str
) -> AsyncIterator[tuple[Front, Program]]:
    """The same system, through a collector of its own with these settings."""
    servers = front.system
    with System(servers.redis_url, servers.database_url, folder, settings) as system:
        (collector,) = await system.start("collector")
        yield replace(front, system=system), collector


# --- tokens ---


async def test_the_highest_role_of_the_platforms_own_tokens_is_stored(front: Front) -> None:
    roles = [{"type": "project_moderator", "project_id": "5"}, {"type": "admin"}]
    token = front.token(cluster="EU", tenant=str(uuid.uuid4()), roles=roles)
    session = await front.start()
    await front.start(token=token, user_agent=CHROME)
    assert (await front.upgrade(session, token=token)).status == 202
    rows = await front.settled(2, upgraded=1)
    assert [row["highest_role"] for row in rows] == ["admin", "admin"]


async def test_a_token_without_an_expiry_is_warned_of_or_refused(
    apart: Front, tmp_path: Path
) -> None:
    endless = jwt.encode({"sub": "ada"}, JWT_KEY)
    async with another_collector(apart, tmp_path) as (lenient, collector):
        session = await lenient.start()
        assert (await lenient.upgrade(session, token=endless)).status == 202
        metrics = await collector.metrics()
        assert metrics["impact_tokens_without_expiry_total"] == 1
        assert collector.log.count("JWT_REQUIRE_EXPIRY=1") == 1
    async with another_collector(apart, tmp_path, JWT_REQUIRE_EXPIRY="1") as (strict, _):
        session = await strict.start(address="192.0.2.2")
        assert (await strict.upgrade(session, token=endless)).status == 401
        await strict.start(token=endless)
    rows = await apart.settled(3, upgraded=1)
    assert [row["highest_role"] for row in rows] == ["user", None, None]


async def test_tokens_that_never_name_a_role_are_warned_of(apart: Front, tmp_path: Path) -> None:
    async with another_collector(apart, tmp_path, JWT_ROLE_CLAIM="rolle") as (wrong, collector):
        for _ in range(100):
            await wrong.upgrade("current", token=wrong.token(role="admin"))
        metrics = await collector.metrics()
        assert metrics['impact_token_roles_total{role="none"}'] == 100
        assert collector.log.count("no token has named a role") == 1


# --- pages of other origins, and bad input ---


async def test_a_page_of_another_origin_may_send_and_read(front: Front) -> None:
    origin = f"https://{front.site}"
    asked = {
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization",
    }
    for path in (SESSIONS, f"{SESSIONS}/current/upgrade"):
        preflight = await front.send("OPTIONS", path, headers=asked)
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == origin
        assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
        assert preflight.headers["Access-Control-Allow-Headers"] == "authorization"
    answer = await front.send("POST", SESSIONS, headers={"Cookie": "session=secret"})
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert answer.headers["Vary"] == "Origin"
    assert "Set-Cookie" not in answer.headers
    refused = await front.send("POST", SESSIONS, data="{", headers={"Content-Type": "text/plain"})
    assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (400, origin)


_JSON = {"headers": {"Content-Type": "application/json"}}
_ZIPPED = {"headers": {"Content-Type": "application/json", "Content-Encoding": "gzip"}}
_UPGRADE = f"{SESSIONS}/current/upgrade"
_BAD: dict[str, tuple[int, str, str, Mapping[str, Any]]] = {
    "no JSON": (400, "POST", SESSIONS, {"data": "{"} | _JSON),
    "a list": (400, "POST", SESSIONS, {"data": "[]"} | _JSON),
    "a string": (400, "POST", SESSIONS, {"data": '"id"'} | _JSON),
    "not UTF-8": (400, "POST", SESSIONS, {"data": b'{"a":"\xff"}'} | _JSON),
    "brackets": (400, "POST", SESSIONS, {"data": "[" * 4000} | _JSON),
    "an id that is no UUID": (400, "POST", SESSIONS, {"json": {"id": "42"}}),
    "an id that is a number": (400, "POST", SESSIONS, {"json": {"id": 42}}),
    "an id that is null": (400, "POST", SESSIONS, {"json": {"id": None}}),
    "the nil UUID": (400, "POST", SESSIONS, {"json": {"id": str(uuid.UUID(int=0))}}),
    "an upgrade of no UUID": (400, "PATCH", f"{SESSIONS}/42/upgrade", {}),
    "an upgrade, no JSON": (400, "PATCH", _UPGRADE, {"data": "{"} | _JSON),
    "an unknown path": (404, "POST", "/web_api/v1/session", {}),
    "an unknown page": (404, "GET", "/", {}),
    "another case": (404, "POST", SESSIONS.title(), {}),
    "two slashes at the end": (404, "POST", f"{SESSIONS}//", {}),
    "no session's upgrade": (404, "PATCH", f"{SESSIONS}/upgrade", {}),
    "a path in a session's place": (404, "PATCH", f"{SESSIONS}/a/b/upgrade", {}),
    "another method": (405, "GET", SESSIONS, {}),
    "another method of an upgrade": (405, "DELETE", _UPGRADE, {}),
    "too large": (413, "POST", SESSIONS, {"data": "x" * 16_385} | _JSON),
    "a form": (415, "POST", SESSIONS, {"data": {"id": "42"}}),
    "a content coding": (415, "POST", SESSIONS, {"data": b"no"} | _ZIPPED),
}


async def test_bad_input_gets_a_reason_and_stores_nothing(front: Front) -> None:
    for name, (status, method, path, options) in _BAD.items():
        answer = await front.send(method, path, token=front.token(), **options)
        assert (name, answer.status) == (name, status)
        assert status != 405 or "OPTIONS" in answer.headers["Allow"]
        (error,) = answer.body["errors"]
        assert error["status"] == str(status)
        assert error["title"]
        assert error["detail"]
    await front.start()
    await front.settled(1)


# --- today's front-end ---


async def test_a_slash_at_the_end_of_a_path_changes_nothing(front: Front) -> None:
    """Some callers add one to every path."""
    assert (await front.send("POST", f"{SESSIONS}/")).status == 201
    upgrade = await front.send("PATCH", f"{SESSIONS}/current/upgrade/", token=front.token())
    assert upgrade.status == 202
    await front.settled(1, upgraded=1)


async def test_a_pageview_of_todays_front_end_is_answered_and_stores_nothing(front: Front) -> None:
    session = await front.start()
    ignored = 'impact_ignored_total{reason="pageview"}'
    before = await front.metric(ignored)
    body = {"pageview": {"path": "/en/", "route": "/:locale"}}
    answer = await front.send("POST", f"{SESSIONS}/{session}/track_pageview", json=body)
    assert (answer.status, answer.body) == (204, "")
    assert answer.headers["Access-Control-Allow-Origin"] == f"https://{front.site}"
    assert await front.metric(ignored) == before + 1
    await front.settled(1)


# --- which site ---


@pytest.mark.parametrize("origin", ["null", None])
async def test_a_page_that_hides_its_origin_does_not_count_for_the_collectors_site(
    front: Front, origin: str | None
) -> None:
    """Only a page of the same origin, or a browser of before 2023, can mean `Host`'s site."""
    rejected, hidden = 'impact_rejected_total{reason="origin"}', "impact_hidden_origins_total"
    before = [await front.metric(rejected), await front.metric(hidden)]
    answers = []
    for fetch_site in ("cross-site", "same-site", "same-origin", None):
        headers = {"Origin": origin, "Host": front.site, "Sec-Fetch-Site": fetch_site}
        answer = await front.send("POST", SESSIONS, headers=headers)
        answers.append(answer.status)
        if answer.status == 403:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answers == [403, 403, 201, 201]
    assert await front.metric(rejected) == before[0] + 2
    # Where the browser says nothing the site may be wrong, so that it is counted.
    assert await front.metric(hidden) == before[1] + (origin == "null")
    await front.settled(2)


async def test_new_sites_are_limited_in_their_rate(apart: Front, tmp_path: Path) -> None:
    async with another_collector(apart, tmp_path, NEW_SITES_PER_MINUTE="1") as (open_, collector):
        assert "SITES" in collector.log
        sites = [replace(open_, site=f"s{number}-{apart.site}") for number in range(12)]
        answers = [await site.send("POST", SESSIONS) for site in sites]
        assert [answer.status for answer in answers[:10]] == [201] * 10
        assert answers[11].status == 503
        assert int(answers[11].headers["Retry-After"]) > 0
        await sites[0].start()  # a known site is never refused
        metrics = await collector.metrics()
        assert metrics['impact_failed_total{reason="new_sites"}'] >= 1
        assert metrics["impact_new_sites_total"] >= 10
        status, page = await collector.readyz()
        assert status == 200
        assert "SITES" in page["warnings"]["new_sites"]
    await sites[11].settled(0)
    await sites[0].settled(2)


# --- which address ---


async def test_an_ipv4_address_within_an_ipv6_one_is_no_trusted_proxy(front: Front) -> None:
    """Otherwise anybody with a 6to4 address could pretend to be a proxy."""
    for written in ("203.0.113.9", "198.51.100.1"):
        await front.start(address=f"{written}, 2002:7f00:1::1")
    first, second = await front.settled(2)
    assert first["monthly_user_hash"] == second["monthly_user_hash"]


async def test_many_visits_of_one_address_make_a_warning_and_the_collector_stays_ready(
    front: Front,
) -> None:
    async def visit(_: int) -> None:
        answer = await front.upgrade("current", address="198.51.100.7")
        assert answer.status == 401  # its address is examined, and it leaves nothing to wait for

    for start in range(0, 2 * WINDOW, 50):
        await asyncio.gather(*map(visit, range(start, start + 50)))
    status, page = await eventually(
        front.collector.readyz, lambda found: bool(found[1].get("warnings"))
    )
    assert (status, page["ready"]) == (200, True)
    assert "TRUSTED_PROXIES" in page["warnings"]["client_address_one_address"]
    assert "198.51.100.7" not in str(page)
    assert await front.metric('impact_client_address_suspect{reason="one_address"}') == 1


# --- who counts ---


async def test_sign_ins_say_how_far_visitors_are_from_users(front: Front) -> None:
    """One user with two devices, of which another user signs in at one; by id, and by `current`.
    A backend without a client's address is no visitor.
    """
    for user, address, by_id in (
        ("ada", "192.0.2.1", True),
        ("ada", "192.0.2.2", True),
        ("bob", "192.0.2.2", False),
    ):
        session = await front.start(address=address)
        for _ in range(2):
            target, token = session if by_id else "current", front.token(user)
            assert (await front.upgrade(target, address=address, token=token)).status == 202
    session = await front.start()
    answer = await front.upgrade(session, address="127.0.0.1", token=front.token("cyd"))
    assert answer.status == 202
    await front.settled(4, upgraded=4)
    counted = await sign_in_counts(front.database)
    assert [counts for (_, site), counts in counted.items() if site == front.site] == [(3, 2, 2)]


async def test_later_upgrades_with_another_user_are_counted(front: Front) -> None:
    async def of_others() -> float:
        flushers = [one for one in front.system.programs if one.module == "flusher"]
        counts = [await flusher.metrics() for flusher in flushers]
        return sum(count["impact_upgrades_of_another_user_total"] for count in counts)

    before = await of_others()
    session = await front.start()
    await front.upgrade(session, token=front.token("ada"))
    await front.settled(1, upgraded=1)
    await front.upgrade(session, token=front.token("ada"))
    await front.upgrade(session, token=front.token("bob"))
    signed_in = await front.start(token=front.token("ada"), user_agent=CHROME)
    await front.upgrade(signed_in, token=front.token("ada"))
    await front.upgrade(signed_in, token=front.token("bob"))
    await eventually(of_others, lambda count: count >= before + 2)
    await front.settled(2, upgraded=1)
    assert await of_others() == before + 2
