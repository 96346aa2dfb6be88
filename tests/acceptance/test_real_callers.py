"""Real front-ends, tokens, proxies and telephones, over real HTTP to the row or to its absence."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contract.calendar import SECOND_US
from runtime.clock import wall_clock
from tests.acceptance.conftest import CHROME, FIREFOX, SESSIONS, Front, front_of, start_all
from tests.servers import EMBEDDED as EMBEDDED_SERVERS
from tests.servers import run_servers
from tests.system import JWT_KEY, Program, System, eventually

IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 15_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/15.1 Mobile/15E148 Safari/604.1"
)
TEXT = {"Content-Type": "text/plain;charset=UTF-8"}
# What callers send ends in the collector; what is stored of it is tested on all in test_sessions.
ON_ONE_PAIR = pytest.mark.parametrize(
    "running_system", [EMBEDDED_SERVERS], indirect=True, ids=["embedded"]
)


@pytest.fixture(scope="module")
def system_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One for collectors with settings of their own: what they accept is in no other's metrics."""
    folder = tmp_path_factory.mktemp("apart")
    with (
        run_servers(EMBEDDED_SERVERS, folder) as servers,
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
    """The same system, by a collector of its own with these settings."""
    servers = front.system
    with System(servers.redis_url, servers.database_url, folder, settings) as system:
        (collector,) = await system.start("collector")
        yield replace(front, system=system), collector


async def metric(front: Front, name: str) -> float:
    (collector,) = [one for one in front.system.programs if one.module == "collector"]
    return (await collector.metrics()).get(name, 0.0)


# --- roles ---


@pytest.mark.parametrize(
    ("claims", "stored"),
    [
        ({"roles": [{"type": "admin"}]}, "admin"),
        ({"roles": [{"type": "project_moderator", "project_id": "5"}]}, "project_moderator"),
        ({"roles": [{"type": "project_moderator"}, {"type": "admin"}]}, "admin"),
        ({"roles": ["user", "project_folder_moderator"]}, "project_folder_moderator"),
        ({"roles": []}, "user"),
        ({"highest_role": None, "roles": [{"type": "admin"}]}, "admin"),
        ({"highest_role": "super_admin", "roles": [{"type": "admin"}]}, "super_admin"),
        ({"roles": [{"type": "space_moderator"}]}, "space_moderator"),
        ({"roles": [{"type": "one_of_ours"}, {"type": "another"}]}, "user"),
        ({"roles": [{"type": "admin\n"}, {"type": "a\x1bb"}]}, "user"),
        ({"highest_role": "adm\rin"}, "user"),
    ],
)
@ON_ONE_PAIR
async def test_the_roles_of_the_platforms_own_tokens_are_stored(
    front: Front, claims: dict[str, Any], stored: str
) -> None:
    token = front.token(cluster="EU", tenant=str(uuid.uuid4()), **claims)
    session = await front.start()
    await front.start(token=token, user_agent=CHROME)
    assert (await front.upgrade(session, token=token)).status == 202
    rows = await front.settled(2, upgraded=1)
    assert [row["highest_role"] for row in rows] == [stored, stored]


# --- tokens ---


@ON_ONE_PAIR
async def test_a_clock_that_is_a_little_off_makes_no_visitor_of_a_user(front: Front) -> None:
    now = wall_clock() // SECOND_US
    for claim, at in (("nbf", 10), ("exp", -10), ("nbf", 600), ("exp", -600)):
        times: dict[str, Any] = {claim: now + at}
        await front.start(token=front.token(role="admin", **times))
    rows = await front.settled(4)
    assert [row["highest_role"] for row in rows] == ["admin", "admin", None, None]


@pytest.fixture(scope="module")
def key_pairs() -> list[rsa.RSAPrivateKey]:
    return [rsa.generate_private_key(65537, 2048) for _ in range(3)]


def public(key: rsa.RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


async def test_while_the_key_changes_tokens_of_both_are_good(
    apart: Front, tmp_path: Path, key_pairs: list[rsa.RSAPrivateKey]
) -> None:
    old, new, strange = key_pairs
    claims = {"sub": "ada", "exp": wall_clock() // SECOND_US + 60, "roles": [{"type": "admin"}]}
    async with another_collector(
        apart, tmp_path, JWT_KEY=public(old) + public(new), JWT_ALGORITHMS="RS256"
    ) as (both, _):
        for key in (old, new, strange):
            await both.start(token=jwt.encode(claims, key, algorithm="RS256"))
        forged = jwt.encode(claims, "-" * 64, algorithm="HS256")
        await both.start(token=forged)
        rows = await both.settled(4)
    assert [row["highest_role"] for row in rows] == ["admin", "admin", None, None]


async def test_while_the_secret_changes_tokens_of_both_are_good(
    apart: Front, tmp_path: Path
) -> None:
    secrets = [word * 32 for word in "abc"]
    claims = {"sub": "ada", "exp": wall_clock() // SECOND_US + 60}
    async with another_collector(apart, tmp_path, JWT_KEY="\n".join(secrets[:2])) as (both, _):
        statuses = []
        for secret in secrets:
            session = await both.start()
            token = jwt.encode(claims, secret)
            statuses.append((await both.upgrade(session, token=token)).status)
        assert statuses == [202, 202, 401]
        await both.settled(3, upgraded=2)


async def test_a_token_without_an_end_is_warned_of_or_refused(apart: Front, tmp_path: Path) -> None:
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


async def test_tokens_that_never_name_a_role_are_hinted_at(apart: Front, tmp_path: Path) -> None:
    async with another_collector(apart, tmp_path, JWT_ROLE_CLAIM="rolle") as (wrong, collector):
        for _ in range(100):
            await wrong.upgrade("current", token=wrong.token(role="admin"))
        metrics = await collector.metrics()
        assert metrics['impact_token_roles_total{role="none"}'] == 100
        assert collector.log.count("no token has named a role") == 1


# --- bodies ---


@ON_ONE_PAIR
async def test_an_ignored_part_of_the_body_does_not_cost_the_session(front: Front) -> None:
    long = front.token(role="admin", padding="x" * 4400)
    await front.start(data=json.dumps({"token": long}), headers=TEXT)
    body = {"session": {"referrer": "https://example.org/" + "r" * 4000}}
    await front.start(json=body)
    whole = json.dumps({"padding": "x" * (16 * 1024 - 15)})
    assert len(whole) == 16 * 1024
    await front.start(data=whole, headers=TEXT)
    refused = await front.send("POST", SESSIONS, data=whole + " ", headers=TEXT)
    assert (refused.status, refused.body["errors"][0]["status"]) == (413, "413")
    assert "16 KiB" in refused.body["errors"][0]["detail"]
    rows = await front.settled(3)
    assert [row["highest_role"] for row in rows] == ["admin", None, None]


@ON_ONE_PAIR
async def test_a_byte_order_mark_before_the_json_is_passed_over(front: Front) -> None:
    session = uuid.uuid4()
    body = b"\xef\xbb\xbf" + json.dumps({"id": str(session)}).encode()
    assert await front.start(data=body, headers=TEXT) == session
    for mark in (b"\xef\xbb\xbf" * 2, b"\xff\xfe"):
        bad = await front.send("POST", SESSIONS, data=mark + b"{}", headers=TEXT)
        assert bad.status == 400
    await front.settled(1)


# --- preflights ---

TRACING = "authorization,baggage,content-type,sentry-trace,traceparent,x-requested-with"


@pytest.mark.parametrize("path", [SESSIONS, f"{SESSIONS}/{uuid.UUID(int=7)}/upgrade"])
@ON_ONE_PAIR
async def test_a_preflight_allows_the_headers_that_tools_add(front: Front, path: str) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": TRACING}
    answer = await front.send("OPTIONS", path, headers=asked)
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Headers"] == TRACING
    assert answer.headers["Access-Control-Allow-Origin"] == f"https://{front.site}"
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize("asked", ["x" * 5000, "a b", "x-é", "", None])
@ON_ONE_PAIR
async def test_what_is_no_list_of_names_is_allowed_in_general(
    front: Front, asked: str | None
) -> None:
    headers = {"Access-Control-Request-Method": "POST"}
    if asked is not None:
        headers["Access-Control-Request-Headers"] = asked
    answer = await front.send("OPTIONS", SESSIONS, headers=headers)
    assert answer.status == 204
    allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"*", "Authorization"} <= set(allowed)


@ON_ONE_PAIR
async def test_a_page_that_sends_credentials_may_read_the_answer(front: Front) -> None:
    answer = await front.send("POST", SESSIONS, headers={"Cookie": "session=secret"})
    assert answer.status == 201
    assert answer.headers["Access-Control-Allow-Origin"] == f"https://{front.site}"
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert answer.headers["Vary"] == "Origin"
    assert "Set-Cookie" not in answer.headers
    await front.settled(1)


# --- today's front-end ---


@ON_ONE_PAIR
async def test_a_pageview_of_todays_front_end_is_answered_and_stores_nothing(front: Front) -> None:
    session = await front.start()
    path = f"{SESSIONS}/{session}/track_pageview"
    before = await metric(front, 'impact_ignored_total{reason="pageview"}')
    body = {"pageview": {"path": "/en/", "route": "/:locale"}}
    answer = await front.send("POST", path, json=body)
    assert (answer.status, answer.body) == (204, "")
    assert answer.headers["Access-Control-Allow-Origin"] == f"https://{front.site}"
    assert await metric(front, 'impact_ignored_total{reason="pageview"}') == before + 1
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": TRACING}
    preflight = await front.send("OPTIONS", path, headers=asked)
    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Headers"] == TRACING
    await front.settled(1)


@ON_ONE_PAIR
async def test_a_slash_at_the_end_of_the_path_changes_nothing(front: Front) -> None:
    answer = await front.send("POST", SESSIONS + "/")
    assert answer.status == 201
    session = answer.body["data"]["id"]
    upgrade = f"{SESSIONS}/{session}/upgrade/"
    assert (await front.send("PATCH", upgrade, token=front.token())).status == 202
    assert (await front.send("OPTIONS", upgrade)).status == 204
    assert (await front.send("POST", f"{SESSIONS}/{session}/track_pageview/")).status == 204
    for path in ("/", f"{SESSIONS}//", "//"):
        assert (await front.send("POST", path)).status == 404
    await front.settled(1, upgraded=1)


# --- which site ---


@pytest.mark.parametrize("origin", ["null", None])
@ON_ONE_PAIR
async def test_a_page_that_hides_where_it_is_does_not_count_for_the_collectors_name(
    front: Front, origin: str | None
) -> None:
    """Only a page of the same origin, or a browser of before 2023, can mean `Host`'s site."""
    before = await metric(front, 'impact_rejected_total{reason="origin"}')
    hidden = await metric(front, "impact_hidden_origins_total")
    answers = []
    for fetch_site in ("cross-site", "same-site", "same-origin", None):
        headers = {"Host": front.site, "User-Agent": CHROME, "X-Forwarded-For": "192.0.2.7"}
        if origin is not None:
            headers["Origin"] = origin
        if fetch_site is not None:
            headers["Sec-Fetch-Site"] = fetch_site
        async with front.http.post(front.system.url + SESSIONS, headers=headers) as response:
            answers.append(response.status)
            if response.status == 403:
                assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert answers == [403, 403, 201, 201]
    assert await metric(front, 'impact_rejected_total{reason="origin"}') == before + 2
    # What a browser has said nothing of may be wrong, and is not taken in silence.
    told = 1 if origin == "null" else 0
    assert await metric(front, "impact_hidden_origins_total") == hidden + told
    await front.settled(2)


@ON_ONE_PAIR
async def test_a_site_that_a_page_writes_into_the_body_is_not_believed(front: Front) -> None:
    """Any page could have its visitors counted as another site's."""
    headers = {"Origin": "null", "Host": front.site, "Sec-Fetch-Site": "cross-site"}
    answer = await front.send("POST", SESSIONS, headers=headers, json={"site": front.site})
    assert answer.status == 403
    await front.settled(0)


# --- which address ---

PLAIN = "192.0.2.10"
EMBEDDED = [
    ("NAT64, RFC 6052", "64:ff9b::c000:20a"),
    ("NAT64 within, RFC 8215, /96", "64:ff9b:1::c000:20a"),
    ("NAT64 within, RFC 8215, /48", "64:ff9b:1:c000:2:a00::"),
    ("IPv4-compatible", "::c000:20a"),
    ("IPv4-mapped", "::ffff:192.0.2.10"),
    ("IPv4-translated", "::ffff:0:c000:20a"),
    ("Teredo", "2001:0:4136:e378:8000:63bf:3fff:fdf5"),
    ("6to4", "2002:c000:20a:1::7"),
]


@ON_ONE_PAIR
async def test_an_ipv4_address_within_an_ipv6_one_is_that_address(front: Front) -> None:
    addresses = [PLAIN, *(address for _, address in EMBEDDED)]
    for address in addresses:
        await front.start(address=address)
    await front.start(address="64:ff9b::c633:6407")
    await front.start(address="2001:db8::1")
    hashes = [row["monthly_user_hash"] for row in await front.settled(len(addresses) + 2)]
    names = ["plain", *(name for name, _ in EMBEDDED)]
    other = [name for name, hash_ in zip(names, hashes, strict=False) if hash_ != hashes[0]]
    assert other == []
    assert len(set(hashes)) == 3


@ON_ONE_PAIR
async def test_an_ipv4_address_within_is_no_word_of_a_trusted_proxy(front: Front) -> None:
    """Anybody with a 6to4 address could else have that of a proxy."""
    chain = "203.0.113.9, 2002:7f00:1::1"
    await front.start(address=chain)
    await front.start(address="198.51.100.1, 2002:7f00:1::1")
    first, second = await front.settled(2)
    assert first["monthly_user_hash"] == second["monthly_user_hash"]


@ON_ONE_PAIR
async def test_of_a_long_chain_of_proxies_the_nearest_count(front: Front) -> None:
    """64 of them; a client that writes more changes nothing."""
    proxies = ", ".join(["127.0.0.1"] * 63)
    await front.start(address=f"192.0.2.50, {proxies}")
    await front.start(address="192.0.2.50")
    await front.start(address=f"192.0.2.51, {proxies}, 127.0.0.1")
    await front.start(address=f"192.0.2.52, {proxies}, 127.0.0.1")
    hashes = [row["monthly_user_hash"] for row in await front.settled(4)]
    assert hashes[0] == hashes[1]
    assert hashes[2] == hashes[3] != hashes[0]


# --- crawler or person ---


@pytest.mark.parametrize(
    "user_agent",
    [
        f"{CHROME} | Initiator: https://www.example.org/en/projects",
        f"{FIREFOX} | Initiator: https://www.example.org/en/projects",
        f"SomeServiceMobileSDK/9.1 iOS/15.1 (iPhone) App/2.0 Hybrid uid_5F ftr_AI.SP {IPHONE}",
        f"SalesforceMobileSDK/9.1 iOS/15.1 (iPhone) App/2.0 Hybrid {IPHONE}",
        f"CityMonitor/1.0 {IPHONE}",
        "Mozilla/5.0 (X11; Linux) Gecko/20100101 Firefox/140.0",
    ],
)
@ON_ONE_PAIR
async def test_a_whole_browser_with_a_tools_or_an_apps_name_is_a_person(
    front: Front, user_agent: str
) -> None:
    await front.start(user_agent=user_agent)
    await front.settled(1)


@pytest.mark.parametrize(
    "user_agent",
    ["Mozilla/5.0", "-", "null", "Chrome", "Windows NT 6.1", "Mozilla/5.0 ()", "?", "Firefox"],
)
@ON_ONE_PAIR
async def test_what_no_browser_calls_itself_is_nobody(front: Front, user_agent: str) -> None:
    before = await metric(front, 'impact_ignored_total{reason="not_a_browser"}')
    answer = await front.send("POST", SESSIONS, user_agent=user_agent)
    assert answer.status == 204
    assert await metric(front, 'impact_ignored_total{reason="not_a_browser"}') == before + 1
    await front.settled(0)


# --- many sites ---


async def test_sites_that_nobody_named_come_in_only_so_fast(apart: Front, tmp_path: Path) -> None:
    async with another_collector(apart, tmp_path, NEW_SITES_PER_MINUTE="1") as (open_, collector):
        assert "SITES" in collector.log
        sites = [f"s{number}-{apart.site}" for number in range(12)]
        answers = [
            await open_.send("POST", SESSIONS, headers={"Origin": f"https://{site}"})
            for site in sites
        ]
        assert [answer.status for answer in answers[:10]] == [201] * 10
        assert answers[11].status == 503
        assert int(answers[11].headers["Retry-After"]) > 0
        known = await open_.send("POST", SESSIONS, headers={"Origin": f"https://{sites[0]}"})
        assert known.status == 201, "who is known goes on"
        metrics = await collector.metrics()
        assert metrics['impact_failed_total{reason="new_sites"}'] >= 1
        assert metrics["impact_new_sites_total"] >= 10
        async with apart.http.get(f"{collector.admin_url}/readyz") as response:
            page = await response.json()
        assert response.status == 200
        assert "SITES" in page["warnings"]["new_sites"]
    await replace(apart, site=sites[11]).settled(0)
    await replace(apart, site=sites[0]).settled(2)


async def test_sites_that_are_named_are_never_bounded(apart: Front, tmp_path: Path) -> None:
    settings = {"SITES": f"*.{apart.site}", "NEW_SITES_PER_MINUTE": "1"}
    async with another_collector(apart, tmp_path, **settings) as (named, _):
        for number in range(15):
            origin = {"Origin": f"https://s{number}.{apart.site}"}
            assert (await named.send("POST", SESSIONS, headers=origin)).status == 201
        await replace(apart, site=f"s14.{apart.site}").settled(1)


# --- upgrades by whoever knows the id ---


@ON_ONE_PAIR
async def test_upgrades_that_came_second_with_another_user_are_counted(front: Front) -> None:
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
