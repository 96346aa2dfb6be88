"""Who counts, from outside: reasons in the metrics, `Forwarded`, and the check of addresses."""

import asyncio
from typing import Any

import pytest

from collector.request.address_check import WINDOW
from tests.acceptance.conftest import CHROME, SESSIONS, Front
from tests.system import eventually


async def ignored(front: Front, reason: str) -> float:
    (collector,) = [one for one in front.system.programs if one.module == "collector"]
    metrics = await collector.metrics()
    return metrics.get(f'impact_ignored_total{{reason="{reason}"}}', 0.0)


@pytest.mark.parametrize(
    ("user_agent", "headers", "reason"),
    [
        (CHROME, {"Sec-Purpose": "prefetch;prerender"}, "prefetch"),
        (CHROME, {"sec-ch-ua": '"HeadlessChrome";v="128"'}, "headless"),
        ("GPTBot/1.2", {}, "ai_agent"),
        ("curl/8.5.0", {}, "http_library"),
        ("", {}, "no_user_agent"),
    ],
)
async def test_what_is_ignored_is_counted_by_its_reason(
    front: Front, user_agent: str, headers: dict[str, str], reason: str
) -> None:
    before = await ignored(front, reason)
    answer = await front.send("POST", SESSIONS, user_agent=user_agent, headers=headers)
    assert answer.status == 204
    assert await ignored(front, reason) == before + 1
    await front.settled(0)


async def test_forwarded_tells_two_visitors_apart(front: Front) -> None:
    for node in ("192.0.2.1", '"192.0.2.1:4711"', '"[2001:db8::1]"', '"[2001:db8::2]:80"'):
        headers = {
            "Origin": f"https://{front.site}",
            "User-Agent": CHROME,
            "Forwarded": f"for={node}",
        }
        async with front.http.post(front.system.url + SESSIONS, headers=headers) as response:
            assert response.status == 201
    rows = await front.settled(4)
    assert len({row["monthly_user_hash"] for row in rows}) == 2


async def test_sign_ins_tell_how_far_visitors_are_from_users(front: Front) -> None:
    """One user's two devices, of which another signs in at one, too; by id, and by `current`. A
    backend that names nobody is no visitor.
    """
    for user, address, by_id in (
        ("ada", "192.0.2.1", True),
        ("ada", "192.0.2.2", True),
        ("bob", "192.0.2.2", False),
    ):
        session = await front.start(address=address)
        for _ in range(2):
            answer = await front.upgrade(
                session if by_id else "current", address=address, token=front.token(user)
            )
            assert answer.status == 202
    session = await front.start()
    answer = await front.upgrade(session, address="127.0.0.1", token=front.token("cyd"))
    assert answer.status == 202
    await front.settled(4, upgraded=4)
    query = "SELECT pairs, users, visitors FROM flusher.sign_ins WHERE site = $1"
    counted = await front.database.fetch(query, front.site)
    assert [tuple(row) for row in counted] == [(3, 2, 2)]


async def test_visits_of_one_address_are_warned_of_and_the_collector_stays_ready(
    front: Front,
) -> None:
    (collector,) = [one for one in front.system.programs if one.module == "collector"]

    async def visit(_: int) -> None:
        answer = await front.upgrade("current", address="198.51.100.7")
        assert answer.status == 401  # it is looked at, and leaves nothing to wait for

    async def page() -> tuple[int, dict[str, Any]]:
        async with front.http.get(f"{collector.admin_url}/readyz") as response:
            return response.status, await response.json()

    for start in range(0, 2 * WINDOW, 50):
        await asyncio.gather(*map(visit, range(start, start + 50)))
    status, shown = await eventually(page, lambda found: bool(found[1]["warnings"]))
    assert status == 200
    assert shown["ready"]
    assert "TRUSTED_PROXIES" in shown["warnings"]["client_address_one_address"]
    assert "198.51.100.7" not in str(shown)
    metrics = await collector.metrics()
    assert metrics['impact_client_address_suspect{reason="one_address"}'] == 1
