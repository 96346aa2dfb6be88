"""Over real HTTP, read back from PostgreSQL: what each request becomes."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import jwt

from contract.calendar import SECOND_US, from_us
from runtime.clock import wall_clock
from tests.acceptance.conftest import CHROME, SESSIONS, Front
from tests.system import eventually

GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
PRERENDER = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/61.0 "
    "Safari/537.36 Prerender (+https://github.com/prerender/prerender)"
)


async def test_a_visitor_is_a_session_without_a_role(front: Front) -> None:
    before = from_us(wall_clock())
    session = await front.start()
    (row,) = await front.settled(1)
    second = timedelta(seconds=1)
    assert before - second <= row["created_at"] <= from_us(wall_clock()) + second
    assert (row["id"], row["site"]) == (session, front.site)
    assert row["highest_role"] is row["upgraded_at"] is None
    assert row["month"] == row["created_at"].date().replace(day=1)
    hash_ = row["monthly_user_hash"]
    assert (hash_.version, hash_.variant) == (8, uuid.RFC_4122)


async def test_a_token_makes_a_signed_in_session(front: Front) -> None:
    """In the header, or in the body for callers that can't set headers. It may have expired a
    moment ago (JWT_LEEWAY_SECONDS).
    """
    await front.start(token=front.token())
    await front.start(token=front.token(role="admin"))
    body = json.dumps({"token": front.token(role="super_admin")})
    await front.start(data=body, headers={"Content-Type": "text/plain;charset=UTF-8"})
    await front.start(token=front.token(role="admin", exp=wall_clock() // SECOND_US - 10))
    rows = await front.settled(4)
    roles = ["user", "admin", "super_admin", "admin"]
    assert [row["highest_role"] for row in rows] == roles


async def test_a_caller_with_a_useless_token_is_a_visitor(front: Front) -> None:
    expired = front.token(exp=1)
    forged = jwt.encode({"sub": "ada"}, "another key, also of more than 32 bytes")
    unsigned = jwt.encode({"sub": "ada"}, "", algorithm="none")
    for token in ("undefined", "null", "", expired, forged, unsigned):
        await front.start(token=token)
    rows = await front.settled(6)
    assert {row["highest_role"] for row in rows} == {None}
    assert len({row["monthly_user_hash"] for row in rows}) == 1


async def test_a_crawler_leaves_no_row(front: Front) -> None:
    for user_agent in (GOOGLEBOT, PRERENDER, None, ""):
        started = await front.send("POST", SESSIONS, user_agent=user_agent)
        upgraded = await front.upgrade("current", user_agent=user_agent, token=front.token())
        assert (started.status, upgraded.status) == (204, 204), user_agent
        assert started.body == upgraded.body == ""
    await front.settled(0)


async def test_an_upgrade_by_id_changes_who_and_not_when(front: Front) -> None:
    session = await front.start()
    (before,) = await front.settled(1)
    assert (await front.upgrade(session, token=front.token(role="admin"))).status == 202
    (row,) = await front.settled(1, upgraded=1)
    await front.start(token=front.token(role="admin"))
    (_, signed_in) = await front.settled(2, upgraded=1)

    assert row["id"] == session
    assert row["highest_role"] == "admin"
    assert row["created_at"] == before["created_at"] < row["upgraded_at"]
    assert row["monthly_user_hash"] != before["monthly_user_hash"]
    assert row["monthly_user_hash"] == signed_in["monthly_user_hash"], "the user's own hash"


async def test_current_is_the_newest_anonymous_session_of_this_visitor(front: Front) -> None:
    sessions = [await front.start() for _ in range(3)]
    stranger = await front.start(address="192.0.2.9")
    assert (await front.upgrade("current", token=front.token())).status == 202
    rows = {row["id"]: row for row in await front.settled(4, upgraded=1)}
    assert rows[sessions[2]]["highest_role"] == "user"
    assert (await front.upgrade("current", token=front.token("bob"))).status == 202
    rows = {row["id"]: row for row in await front.settled(4, upgraded=2)}
    assert rows[sessions[1]]["highest_role"] == "user", "the newest that was still anonymous"
    assert rows[sessions[0]]["highest_role"] is rows[stranger]["highest_role"] is None


async def test_the_first_upgrade_wins_and_repeats_change_nothing(front: Front) -> None:
    """By either method."""
    session = await front.start()
    await front.upgrade(session, token=front.token("ada", "admin"))
    (first,) = await front.settled(1, upgraded=1)
    for user, method in (("ada", "PATCH"), ("bob", "POST")):
        token = front.token(user, "super_admin")
        answer = await front.send(method, f"{SESSIONS}/{session}/upgrade", token=token)
        assert answer.status == 202
    assert await front.settled(1, upgraded=1) == [first]


async def test_an_upgrade_that_arrives_before_its_session_waits_for_it(front: Front) -> None:
    session, other = uuid.uuid4(), "192.0.2.2"
    assert (await front.upgrade(session, token=front.token("ada", "admin"))).status == 202
    assert (await front.upgrade("current", address=other, token=front.token("bob"))).status == 202
    await front.settled(0)
    assert await front.start(json={"id": str(session)}) == session
    await front.start(address=other)
    rows = await front.settled(2, upgraded=2)
    assert [row["highest_role"] for row in rows] == ["admin", "user"]


async def test_an_upgrade_without_a_valid_token_is_refused(front: Front) -> None:
    session = await front.start()
    for token in (None, "undefined", front.token(exp=1)):
        answer = await front.upgrade(session, token=token)
        assert answer.status == 401
        assert answer.body["errors"][0]["status"] == "401"
    await front.settled(1, upgraded=0)


async def test_a_repeated_post_counts_once(front: Front) -> None:
    session = uuid.uuid4()
    for _ in range(3):
        assert await front.start(json={"id": str(session).upper()}) == session
    await front.settled(1)


async def test_a_person_is_one_address_and_user_agent_on_one_site(front: Front) -> None:
    """What a client itself writes into `X-Forwarded-For` makes no other person."""
    other_site = replace(front, site=f"other-{front.site}")
    first, again = await front.start(), await front.start()
    assert first != again
    await front.start(address="203.0.113.77, 192.0.2.1")
    await front.start(address="192.0.2.2")
    await front.start(user_agent=CHROME)
    await other_site.start()
    rows = [*await front.settled(5), *await other_site.settled(1)]
    hashes = [row["monthly_user_hash"] for row in rows]
    assert len(set(hashes[:3])) == 1
    assert len(set(hashes)) == 4


async def test_the_funnel_balances(front: Front) -> None:
    """Received = accepted + ignored + rejected + failed; accepted = written + duplicate + dead."""
    session = await front.start()
    await front.start(json={"id": str(session)})
    await front.upgrade(session, token=front.token())
    await front.send("POST", SESSIONS, user_agent=GOOGLEBOT)
    await front.send("POST", SESSIONS, data="{")
    for method, path in (("OPTIONS", SESSIONS), ("GET", "/beacon.js"), ("GET", "/nothing")):
        await front.send(method, path)
    await front.settled(1, upgraded=1)

    def total(metrics: Mapping[str, float], *names: str) -> float:
        return sum(v for k, v in metrics.items() if k.partition("{")[0] in names)

    flushers = [program for program in front.system.programs if program.module == "flusher"]
    counted = await front.collector.metrics()
    assert counted['impact_ignored_total{reason="page"}'] >= 1
    accepted = total(counted, "impact_accepted_total")
    others = ("impact_ignored_total", "impact_rejected_total", "impact_failed_total")
    assert total(counted, "impact_requests_total") == accepted + total(counted, *others)

    async def ended() -> float:
        names = [f"impact_{name}_total" for name in ("written", "duplicate", "dead")]
        return sum([total(await flusher.metrics(), *names) for flusher in flushers])

    # A row is there before its entry is acknowledged and counted.
    await eventually(ended, lambda count: count == accepted)
