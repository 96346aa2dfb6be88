"""The load against a running system: it is exact, and it finds every kind of difference."""

import asyncio
import itertools
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from bench.load.client import Address, Client, Connection, NoAnswer, Unreachable
from bench.load.people import Plan
from bench.load.reconcile import reconcile, settle
from bench.load.request_builder import TokenSigner
from bench.load.sender import Sender
from tests.servers import Servers
from tests.system import JWT_KEY, System, eventually, find_free_port, run_command

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
SITES = ("a.example.org", "b.example.org")


@pytest.fixture
async def system(
    embedded_servers: Servers, redis: Redis, dsn: str, tmp_path: Path
) -> AsyncIterator[System]:
    await redis.ping()
    with System(embedded_servers.redis.url, dsn, tmp_path) as system:
        yield system


async def load(system: System, *arguments: str) -> tuple[int, str, str]:
    return await run_command("bench.load", "--url", system.url, *arguments, **system.environment)


async def test_a_load_reconciles_exactly(system: System, tmp_path: Path) -> None:
    await system.start("collector", "flusher", "flusher")
    result = tmp_path / "result.json"
    code, output, errors = await load(
        system, "--sessions", "2000", "--rate", "800", "--json", str(result)
    )
    assert code == 0, output + errors + system.logs
    rows = json.loads(result.read_text())["rows"]
    assert rows["exact"]
    assert rows["expected"] == rows["found"] > 1800


async def test_ctrl_c_ends_the_sending_and_compares_what_was_sent(
    system: System, dsn: str, tmp_path: Path
) -> None:
    await system.start("collector", "flusher")
    result = tmp_path / "result.json"
    program = system.program("bench.load")
    program.arguments = ("--url", system.url, "--rate", "50", "--json", str(result))
    program.start()
    connection = await asyncpg.connect(dsn)
    query = "SELECT count(*) FROM sessions"
    await eventually(lambda: connection.fetchval(query), lambda rows: rows > 20)
    await connection.close()
    program.running.send_signal(signal.SIGINT)
    assert await program.exit_code() == 0, program.log
    document = json.loads(result.read_text())
    assert document["rows"]["exact"]
    assert document["requests"]["sent"] < 10_000


async def test_every_kind_of_difference_is_found(system: System, dsn: str) -> None:
    await system.start("collector", "flusher")
    plan = Plan(SITES, 500, upgraded_percent=20)
    async with Client(Address.parse(system.url), 8) as client:
        sender = Sender(client, plan, TokenSigner({"JWT_KEY": JWT_KEY}))
        await sender.run()
    differences = await settle(
        sender.sent_log, dsn, UTC, patience_seconds=60, aftermath_seconds=0.5
    )
    assert differences.exact, differences.examples
    connection = await asyncpg.connect(dsn)
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
    await connection.close()
    differences = await reconcile(sender.sent_log, dsn, UTC)
    assert not differences.exact
    assert (differences.lost, differences.twice, differences.invented) == (1, 1, 1)
    assert differences.wrong >= 1


async def test_a_collector_that_does_not_trust_the_load_is_reported(system: System) -> None:
    system.extra = {"TRUSTED_PROXIES": "192.0.2.1"}
    await system.start("collector", "flusher")
    code, _, errors = await load(system, "--sessions", "100")
    assert code == 2
    assert "error: TRUSTED_PROXIES: " in errors


async def test_a_collector_with_another_key_is_reported(system: System) -> None:
    await system.start("collector", "flusher")
    system.extra = {"JWT_KEY": "another key of more than thirty-two bytes"}
    code, _, errors = await load(system, "--sessions", "100")
    assert code == 2
    assert "error: JWT_KEY: " in errors


async def test_a_missing_flusher_is_reported(system: System) -> None:
    await system.start("collector")
    code, _, errors = await load(system, "--sessions", "100", "--settle-seconds", "1")
    assert code == 1
    assert "is a flusher running" in errors


@pytest.mark.parametrize("name", ["DATABASE_URL", "JWT_KEY"])
async def test_a_missing_setting_is_named_in_one_line(name: str) -> None:
    environment = {"DATABASE_URL": "postgresql://h/d", "JWT_KEY": JWT_KEY} | {name: ""}
    code, _, errors = await run_command("bench.load", **environment)
    assert code == 2
    assert errors.startswith(f"error: {name}: is not set")
    assert errors.count("\n") == 1


async def test_a_url_where_nothing_listens_is_reported() -> None:
    environment = {"DATABASE_URL": "postgresql://h/d", "JWT_KEY": JWT_KEY}
    url = f"http://127.0.0.1:{find_free_port()}"
    code, _, errors = await run_command("bench.load", "--url", url, **environment)
    assert code == 2
    assert errors.startswith("error: --url: no connection")


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(handler: Handler, port: int = 0) -> AsyncIterator[int]:
    """Runs a server; its port. At the end its connections are closed, too."""
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await handler(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(serve(reader, writer)))

    async with await asyncio.start_server(begin, "127.0.0.1", port) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*tasks)


async def test_after_a_connection_that_ended_without_an_answer_there_is_a_new_one() -> None:
    connections = itertools.count()

    async def answer_every_other(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        answers = next(connections) % 2
        await reader.readuntil(b"\r\n\r\n")
        if answers:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-")
            await asyncio.sleep(0.01)  # so that the answer comes in two parts
            writer.write(b"Length: 2\r\n\r\nok")

    async with (
        served(answer_every_other) as port,
        Client(Address("127.0.0.1", port), 1) as client,
    ):
        (connection,) = client
        for _ in range(2):
            await connection.ready()
            with pytest.raises(NoAnswer):
                await connection.exchange(REQUEST)
            await connection.ready()
            assert (await connection.exchange(REQUEST)).body == b"ok"
            await eventually(partial(has_ended, connection))


async def test_an_answer_that_takes_too_long_is_none() -> None:
    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with (
        served(hang) as port,
        Client(Address("127.0.0.1", port), 1, timeout_seconds=0.1) as client,
    ):
        (connection,) = client
        await connection.ready()
        with pytest.raises(NoAnswer):
            await connection.exchange(REQUEST)


async def test_only_with_keep_going_a_client_waits_for_a_server_to_return() -> None:
    accepted = asyncio.Event()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        writer.close()

    port = find_free_port()
    async with Client(Address("127.0.0.1", port), 1) as client:
        (connection,) = client
        with pytest.raises(Unreachable):
            await connection.ready()
    async with Client(Address("127.0.0.1", port), 1, keep_going=True) as client:
        (connection,) = client
        waiting = asyncio.create_task(connection.ready())
        await asyncio.sleep(0.1)  # a few attempts, which nothing shows
        assert not waiting.done()
        async with served(hang_up, port):
            await waiting
            await accepted.wait()


async def has_ended(connection: Connection) -> bool:
    """Whether the client knows that a connection has ended."""
    return not connection.is_open
