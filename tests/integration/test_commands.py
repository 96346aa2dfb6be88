"""Every command: its help, its exit codes, and one clear line where something is wrong."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from embedded.valkey import ValkeyServer
from tests.conftest import Databases
from tests.forked import MODULES, ForkedProgram
from tests.servers import Servers
from tests.system import PythonSystem, System, eventually, run_command, run_python

COMMANDS = [
    ("collector",),
    ("flusher",),
    ("flusher", "migrate"),
    ("flusher", "status"),
    ("flusher", "report"),
    ("rotation",),
    ("rotation", "rotate"),
    ("rotation", "status"),
]
NOWHERE = {
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "DATABASE_URL": "postgresql://postgres@127.0.0.1:1/impact",
}


@pytest.fixture
async def system(
    embedded_servers: Servers, databases: Databases, redis: Redis, tmp_path: Path
) -> PythonSystem:
    assert await redis.dbsize() == 0
    return PythonSystem(embedded_servers.redis.url, await databases.create(), tmp_path)


@pytest.fixture
def forked(system: PythonSystem, tmp_path: Path) -> Iterator[System]:
    with System(system.redis_url, system.database_url, tmp_path) as forked:
        yield forked


@pytest.fixture
def running(system: PythonSystem) -> Iterator[PythonSystem]:
    with system:
        yield system


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_help_is_there(command: tuple[str, ...]) -> None:
    code, output, errors = await run_command(*command, "--help")
    assert (code, errors) == (0, "")
    assert "usage: python -m" in output


@pytest.mark.parametrize("module", MODULES)
async def test_python_m_ends_with_the_commands_exit_code(module: str) -> None:
    """The other tests fork their commands."""
    code, output, errors = await run_python(module, REDIS_URL="", DATABASE_URL="")
    assert (code, output) == (2, "")
    assert errors.count("\n") == 1, errors
    assert "_URL: is not set" in errors


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_wrong_usage_is_2(command: tuple[str, ...]) -> None:
    code, _, errors = await run_command(*command, "--nonsense")
    assert code == 2
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_a_missing_setting_is_2_and_one_line_with_an_example(
    command: tuple[str, ...],
) -> None:
    code, output, errors = await run_command(*command, REDIS_URL="", DATABASE_URL="")
    assert (code, output) == (2, "")
    assert errors.count("\n") == 1, errors
    assert "_URL: is not set (for example: " in errors


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "localhost"),
        ("PORT", "http"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("JWT_ALGORITHMS", "HS1"),
        ("CALENDAR_TIMEZONE", "Mars/Phobos"),
        ("STREAM_SHARDS", "0"),
        ("LOG_LEVEL", "loud"),
        ("ADMIN_PORT", "-1"),
        ("ADMIN_HOST", "192.0.2.1"),  # nobody's, RFC 5737
    ],
)
async def test_a_wrong_setting_is_2_and_is_named(name: str, value: str) -> None:
    code, _, errors = await run_command(
        "collector", **{**NOWHERE, "JWT_KEY": "k" * 40, name: value}
    )
    assert code == 2
    assert errors.splitlines()[-1].startswith(f"error: {name}: ")
    assert "Traceback" not in errors


async def test_a_key_that_is_not_for_its_algorithm_is_named() -> None:
    code, _, errors = await run_command(
        "collector", **NOWHERE, JWT_KEY="no pem", JWT_ALGORITHMS="RS256"
    )
    assert code == 2
    assert "JWT_KEY: is not a key for RS256" in errors
    assert "no pem" not in errors


@pytest.mark.parametrize(
    "command",
    [
        ("rotation", "status"),
        ("rotation", "rotate"),
        ("flusher", "migrate"),
        ("flusher", "report"),
        ("flusher", "dead", "list"),
    ],
    ids=" ".join,
)
async def test_a_server_that_is_away_is_1_and_one_line(command: tuple[str, ...]) -> None:
    code, output, errors = await run_command(*command, **NOWHERE)
    assert (code, output) == (1, "")
    assert errors.count("\n") == 1, errors
    assert errors.startswith("error: ")


async def test_a_server_on_a_unix_socket_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "redis.socket"
    with ValkeyServer(tmp_path / "redis", config={"unixsocket": str(path)}):
        code, output, errors = await run_command("rotation", "rotate", REDIS_URL=f"unix://{path}")
    assert code == 0, errors
    assert "no salt was recorded" in output


async def test_a_port_that_is_taken_is_one_clear_line(system: PythonSystem) -> None:
    with socket.create_server(("127.0.0.1", system.port)):
        code, _, errors = await run_command(
            "collector", **{**system.environment, "ADMIN_PORT": "0"}
        )
    assert code == 2
    assert f"127.0.0.1:{system.port} can't be listened on" in errors.splitlines()[-1]


@pytest.mark.parametrize("module", MODULES)
async def test_sigint_ends_a_process_cleanly(running: PythonSystem, module: str) -> None:
    """Python has a handler of its own for it."""
    await ends_cleanly(running, module, signal.SIGINT)


@pytest.mark.parametrize("module", MODULES)
async def test_sigterm_ends_a_process_cleanly(forked: System, module: str) -> None:
    await ends_cleanly(forked, module, signal.SIGTERM)


async def ends_cleanly(system: PythonSystem, module: str, number: signal.Signals) -> None:
    (program,) = await system.start(module)
    program.running.send_signal(number)
    assert await program.exit_code() == 0, program.log
    assert "Traceback" not in program.log


async def test_status_in_json_is_complete(forked: System) -> None:
    await forked.start("rotation", "collector", "flusher")
    environment = forked.environment | {"STREAM_SHARDS": "8"}
    code, output, errors = await run_command("flusher", "status", "--json", **environment)
    assert code == 0, errors
    status = json.loads(output)
    assert len(status["shards"]) == 8
    assert status["shards"][0].keys() >= {"shard", "entries", "pending", "oldest_seconds"}
    assert (status["dead_letters"], status["upgrades_waiting"]) == (0, 0)

    code, output, errors = await run_command("rotation", "status", "--json", **forked.environment)
    assert code == 0, errors
    status = json.loads(output)
    assert status["salt_is_current"] is True
    assert status["earlier_salts"] == []


async def test_rotate_does_nothing_while_the_month_has_its_salt(system: PythonSystem) -> None:
    first = await run_command("rotation", "rotate", **system.environment)
    again = await run_command("rotation", "rotate", **system.environment)
    forced = await run_command("rotation", "rotate", "--force", **system.environment)
    assert [first[0], again[0], forced[0]] == [0, 0, 0]
    assert "the first is made" in first[1]
    assert "nothing to do" in again[1]
    assert "count twice" in forced[1]


async def test_several_collectors_share_one_port(
    forked: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with admin pages of its own, though they were told the same port."""
    first = forked.program("collector").start()
    await first.ready()  # before the other starts: who comes first has the admin port
    second = ForkedProgram("collector", first.environment, forked.folder / "second.log").start()
    forked.programs.append(second)

    async def listening() -> bool:
        assert second.running.poll() is None, second.log
        return "listening" in second.log

    await eventually(listening)
    monkeypatch.setattr("embedded.system._START_SECONDS", 0.2)
    with pytest.raises(AssertionError, match="is not ready"):
        await second.ready()  # it is the first that would say so there
    assert await first.stop() == 0
    assert await second.stop() == 0
