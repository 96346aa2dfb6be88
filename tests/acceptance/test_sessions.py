"""Over real HTTP, read back from PostgreSQL: what each request becomes."""

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import jwt
import pytest

from contract.calendar import from_us
from runtime.clock import wall_clock
from tests.acceptance.conftest import CHROME, FIREFOX, SESSIONS, Front
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
    assert row["id"] == session
    assert row["site"] == front.site
    assert row["highest_role"] is None
    assert row["upgraded_at"] is None
    assert (
        before - timedelta(seconds=1)
        <= row["created_at"]
        <= from_us(wall_clock()) + timedelta(seconds=1)
    )
    assert row["month"] == row["created_at"].date().replace(day=1)
    assert (row["monthly_user_hash"].version, row["monthly_user_hash"].variant) == (
        8,
        uuid.RFC_4122,
    )


@pytest.mark.parametrize(
    ("role", "stored"),
    [(None, "user"), ("user", "user"), ("admin", "admin"), ("super_admin", "super_admin")],
)
async def test_a_token_makes_a_signed_in_session(
    front: Front, role: str | None, stored: str
) -> None:
    await front.start(token=front.token(role=role))
    (row,) = await front.settled(1)
    assert row["highest_role"] == stored
    assert row["upgraded_at"] is None


async def test_a_token_in_the_body_counts_where_headers_can_not_be_set(front: Front) -> None:
    body = json.dumps({"token": front.token(role="admin")})
    await front.start(data=body, headers={"Content-Type": "text/plain;charset=UTF-8"})
    (row,) = await front.settled(1)
    assert row["highest_role"] == "admin"


async def test_a_useless_token_is_a_visitor(front: Front) -> None:
    expired = front.token(exp=1)
    forged = jwt.encode({"sub": "ada"}, "another key, also of more than 32 bytes")
    unsigned = jwt.encode({"sub": "ada"}, "", algorithm="none")
    for token in ("undefined", "null", "", expired, forged, unsigned):
        await front.start(token=token)
    rows = await front.settled(6)
    assert {row["highest_role"] for row in rows} == {None}
    assert len({row["monthly_user_hash"] for row in rows}) == 1


@pytest.mark.parametrize("user_agent", [GOOGLEBOT, PRERENDER, None, ""])
async def test_a_crawler_leaves_no_row(front: Front, user_agent: str | None) -> None:
    started = await front.send("POST", SESSIONS, user_agent=user_agent)
    upgraded = await front.upgrade("current", user_agent=user_agent, token=front.token())
    assert (started.status, upgraded.status) == (204, 204)
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


async def test_an_upgrade_may_be_posted_too(front: Front) -> None:
    session = await front.start()
    answer = await front.send("POST", f"{SESSIONS}/{session}/upgrade", token=front.token())
    assert answer.status == 202
    await front.settled(1, upgraded=1)


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
    session = await front.start()
    await front.upgrade(session, token=front.token("ada", "admin"))
    (first,) = await front.settled(1, upgraded=1)
    for user in ("ada", "bob"):
        answer = await front.upgrade(session, token=front.token(user, "super_admin"))
        assert answer.status == 202
    assert await front.settled(1, upgraded=1) == [first]


async def test_an_upgrade_after_one_of_current_changes_nothing(front: Front) -> None:
    session = await front.start()
    await front.upgrade("current", token=front.token("ada", "admin"))
    (first,) = await front.settled(1, upgraded=1)
    await front.upgrade(session, token=front.token("bob", "user"))
    assert await front.settled(1, upgraded=1) == [first]


async def test_an_upgrade_that_overtakes_its_session_waits_for_it(front: Front) -> None:
    session = uuid.uuid4()
    assert (await front.upgrade(session, token=front.token())).status == 202
    await front.settled(0)
    assert await front.start(json={"id": str(session)}) == session
    (row,) = await front.settled(1, upgraded=1)
    assert row["highest_role"] == "user"


async def test_an_upgrade_of_current_that_overtakes_its_session_waits_for_it(front: Front) -> None:
    assert (await front.upgrade("current", token=front.token())).status == 202
    await front.settled(0)
    await front.start()
    await front.settled(1, upgraded=1)


async def test_an_upgrade_without_a_good_token_is_refused(front: Front) -> None:
    session = await front.start()
    for token in (None, "undefined", front.token(exp=1)):
        answer = await front.upgrade(session, token=token)
        assert answer.status == 401
        assert answer.body["errors"][0]["status"] == "401"
    await front.settled(1, upgraded=0)


async def test_a_session_of_a_user_is_not_upgraded(front: Front) -> None:
    session = await front.start(token=front.token("ada", "user"))
    await front.upgrade(session, token=front.token("ada", "admin"))
    (row,) = await front.settled(1, upgraded=0)
    assert row["highest_role"] == "user"


async def test_a_repeated_post_counts_once(front: Front) -> None:
    session = uuid.uuid4()
    for _ in range(3):
        assert await front.start(json={"id": str(session).upper()}) == session
    await front.settled(1)


async def test_the_same_visitor_is_one_person_in_two_sessions(front: Front) -> None:
    assert await front.start() != await front.start()
    first, second = await front.settled(2)
    assert first["monthly_user_hash"] == second["monthly_user_hash"]


async def test_another_address_agent_or_site_is_another_person(front: Front) -> None:
    other = Front(front.system, front.http, front.database, f"other-{front.site}")
    await front.start(address="192.0.2.1", user_agent=FIREFOX)
    await front.start(address="192.0.2.2", user_agent=FIREFOX)
    await front.start(address="192.0.2.1", user_agent=CHROME)
    await other.start(address="192.0.2.1", user_agent=FIREFOX)
    rows = [*await front.settled(3), *await other.settled(1)]
    assert len({row["monthly_user_hash"] for row in rows}) == 4


async def test_a_spoofed_forwarded_address_does_not_make_another_person(front: Front) -> None:
    await front.start(address="198.51.100.1")
    await front.start(address="203.0.113.77, 198.51.100.1")
    first, second = await front.settled(2)
    assert first["monthly_user_hash"] == second["monthly_user_hash"]


async def test_a_page_of_another_origin_may_ask_and_read(front: Front) -> None:
    origin = f"https://{front.site}"
    for path in (SESSIONS, f"{SESSIONS}/current/upgrade"):
        preflight = await front.send(
            "OPTIONS",
            path,
            headers={
                "Access-Control-Request-Method": "PATCH",
                "Access-Control-Request-Headers": "authorization",
            },
        )
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == origin
        assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
        assert "authorization" in preflight.headers["Access-Control-Allow-Headers"].lower()
    answer = await front.send("POST", SESSIONS)
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    refused = await front.send("POST", SESSIONS, data="{", headers={"Content-Type": "text/plain"})
    assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (400, origin)


_JSON = {"Content-Type": "application/json"}
_BAD: list[tuple[str, int, str, str, Mapping[str, Any]]] = [
    ("no json", 400, "POST", SESSIONS, {"data": "{", "headers": _JSON}),
    ("a list", 400, "POST", SESSIONS, {"data": "[]", "headers": _JSON}),
    ("a string", 400, "POST", SESSIONS, {"data": '"id"', "headers": _JSON}),
    ("not utf-8", 400, "POST", SESSIONS, {"data": b'{"a":"\xff"}', "headers": _JSON}),
    ("brackets", 400, "POST", SESSIONS, {"data": "[" * 4000, "headers": _JSON}),
    ("id no uuid", 400, "POST", SESSIONS, {"json": {"id": "42"}}),
    ("id a number", 400, "POST", SESSIONS, {"json": {"id": 42}}),
    ("id null", 400, "POST", SESSIONS, {"json": {"id": None}}),
    ("id nil", 400, "POST", SESSIONS, {"json": {"id": str(uuid.UUID(int=0))}}),
    ("upgrade of no uuid", 400, "PATCH", f"{SESSIONS}/42/upgrade", {"token": "good"}),
    (
        "upgrade, no json",
        400,
        "PATCH",
        f"{SESSIONS}/current/upgrade",
        {"data": "{"} | {"headers": _JSON},
    ),
    ("unknown path", 404, "POST", "/web_api/v1/session", {}),
    ("unknown page", 404, "GET", "/", {}),
    ("another method", 405, "GET", SESSIONS, {}),
    ("another method", 405, "DELETE", f"{SESSIONS}/current/upgrade", {}),
    ("too large", 413, "POST", SESSIONS, {"data": "x" * 16_385, "headers": _JSON}),
    ("a form", 415, "POST", SESSIONS, {"data": {"id": "42"}}),
    (
        "a content coding",
        415,
        "POST",
        SESSIONS,
        {"data": b"no", "headers": {**_JSON, "Content-Encoding": "gzip"}},
    ),
]


@pytest.mark.parametrize(
    ("status", "method", "path", "options"),
    [case[1:] for case in _BAD],
    ids=[f"{case[1]} {case[0]}" for case in _BAD],
)
async def test_bad_input_is_told_why_and_stores_nothing(
    front: Front, status: int, method: str, path: str, options: Mapping[str, Any]
) -> None:
    options = dict(options)
    if options.get("token") == "good":
        options["token"] = front.token()
    answer = await front.send(method, path, **options)
    assert answer.status == status
    (error,) = answer.body["errors"]
    assert error["status"] == str(status)
    assert error["title"]
    assert error["detail"]
    assert (await front.send("POST", SESSIONS)).status == 201, "it goes on serving"
    await front.settled(1)


async def test_a_body_in_pieces_that_grows_too_large_is_refused(front: Front) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 1024

    answer = await front.send("POST", SESSIONS, data=pieces(), headers=_JSON)
    assert answer.status == 413
    await front.settled(0)


async def test_the_funnel_balances(front: Front) -> None:
    """Received = accepted + ignored + rejected + failed; accepted = written + duplicate + dead."""
    session = await front.start()
    await front.start(json={"id": str(session)})
    await front.upgrade(session, token=front.token())
    await front.send("POST", SESSIONS, user_agent=GOOGLEBOT)
    await front.send("POST", SESSIONS, data="{", headers=_JSON)
    await front.send("OPTIONS", SESSIONS)
    await front.settled(1, upgraded=1)

    def total(metrics: Mapping[str, float], *names: str) -> float:
        return sum(v for k, v in metrics.items() if k.partition("{")[0] in names)

    collector, *flushers = [p for p in front.system.programs if p.module != "rotation"]
    told = await collector.metrics()
    received = total(told, "impact_requests_total")
    accepted = total(told, "impact_accepted_total")
    others = ("impact_ignored_total", "impact_rejected_total", "impact_failed_total")
    assert received == accepted + total(told, *others)

    async def ended() -> float:
        names = [f"impact_{name}_total" for name in ("written", "duplicate", "dead")]
        return sum([total(await flusher.metrics(), *names) for flusher in flushers])

    # A row is there before its entry is ended and counted.
    await eventually(ended, lambda count: count == accepted)
