"""The load against a running system: it is exact, and it finds every kind of difference."""

import json
import signal
from datetime import UTC
from pathlib import Path

import asyncpg
import pytest

from bench.load.client import connect
from bench.load.people import Plan
from bench.load.reconcile import reconcile, settle
from bench.load.request_builder import TokenSigner
from bench.load.sender import Sender
from tests.system import JWT_KEY, System, eventually, run_command

SITES = ("a.example.org", "b.example.org")


async def load(system: System, *arguments: str) -> tuple[int, str, str]:
    return await run_command("bench.load", "--url", system.url, *arguments, **system.environment)


async def test_ctrl_c_ends_the_sending_and_compares_what_was_sent(
    system: System, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    await system.start("collector", "flusher")
    result = tmp_path / "result.json"
    program = system.program("bench.load")
    program.arguments = ("--url", system.url, "--rate", "50", "--json", str(result))
    program.start()
    query = "SELECT count(*) FROM sessions"
    await eventually(lambda: connection.fetchval(query), lambda rows: rows > 20)
    program.running.send_signal(signal.SIGINT)
    assert await program.exit_code() == 0, program.log
    document = json.loads(result.read_text())
    assert document["rows"]["exact"]
    assert document["rows"]["expected"] == document["rows"]["found"] > 20
    assert document["requests"]["sent"] < 10_000


async def test_every_kind_of_difference_is_found(
    system: System, dsn: str, connection: asyncpg.Connection
) -> None:
    await system.start("collector", "flusher")
    plan = Plan(SITES, 500, upgraded_percent=20)
    with connect(system.url, 8) as connections:
        sender = Sender(connections, plan, TokenSigner({"JWT_KEY": JWT_KEY}))
        await sender.run()
    differences = await settle(
        sender.sent_log, dsn, UTC, patience_seconds=60, aftermath_seconds=0.5
    )
    assert differences.exact, differences.examples
    ids = await connection.fetch("SELECT id FROM sessions ORDER BY id LIMIT 4")
    lost, twice, wrong, invented = (row[0] for row in ids)
    await connection.execute("DELETE FROM sessions WHERE id = $1", lost)
    await connection.execute(
        "SELECT flusher.create_month((max(month) + interval '1 month')::date) FROM sessions"
    )
    await connection.execute(
        "INSERT INTO sessions SELECT id, (month + interval '1 month')::date, site, "
        "monthly_user_hash, highest_role, created_at, upgraded_at FROM sessions WHERE id = $1",
        twice,
    )
    await connection.execute(
        "UPDATE sessions SET monthly_user_hash = (SELECT monthly_user_hash FROM sessions "
        "WHERE id = $2) WHERE id = $1",
        wrong,
        invented,
    )
    await connection.execute(
        "INSERT INTO sessions SELECT overlay(id::text PLACING '0fffffff' FROM 29)::uuid, month, "
        "site, monthly_user_hash, highest_role, created_at, upgraded_at "
        "FROM sessions WHERE id = $1",
        invented,
    )
    differences = await reconcile(sender.sent_log, dsn, UTC)
    assert not differences.exact
    assert (differences.lost, differences.twice, differences.invented) == (1, 1, 1)
    assert differences.wrong >= 1


@pytest.mark.parametrize(
    ("programs", "of_collector", "of_load", "code", "said"),
    [
        ("collector flusher", {"TRUSTED_PROXIES": "192.0.2.1"}, {}, 2, "error: TRUSTED_PROXIES: "),
        ("collector flusher", {}, {"JWT_KEY": "another key of more than 32 bytes"}, 2, "JWT_KEY: "),
        ("collector", {}, {}, 1, "is a flusher running"),
        ("", {}, {}, 2, "error: --url: no connection"),
        ("", {}, {"DATABASE_URL": ""}, 2, "error: DATABASE_URL: is not set"),
        ("", {}, {"JWT_KEY": ""}, 2, "error: JWT_KEY: is not set"),
    ],
)
async def test_what_keeps_a_load_from_being_compared_is_named(
    system: System,
    programs: str,
    of_collector: dict[str, str],
    of_load: dict[str, str],
    code: int,
    said: str,
) -> None:
    system.extra = of_collector
    await system.start(*programs.split())
    system.extra = of_load
    ended, _, errors = await load(system, "--sessions", "100", "--settle-seconds", "1")
    assert ended == code
    assert said in errors
