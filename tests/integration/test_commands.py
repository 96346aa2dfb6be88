"""Every command: its help, its exit codes, one clear line where something is wrong; `status`."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from contract import keys
from embedded.valkey import ValkeyServer
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from tests.conftest import Databases
from tests.events import batch_of, start
from tests.forked import MODULES, ForkedProgram
from tests.instant import UTC
from tests.system import (
    ROOT,
    PythonSystem,
    System,
    eventually,
    fail_in_one_line,
    run_command,
    run_python,
    run_successfully,
)

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
    "DATABASE_URL": "postgresql://postgres@127.0.0.1:1/impact?passfile=/nowhere",
}


@pytest.fixture
def running(system: System, tmp_path: Path) -> Iterator[PythonSystem]:
    """Its processes are not forked: Python starts each."""
    with PythonSystem(system.redis_url, system.database_url, tmp_path) as running:
        yield running


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_a_command_has_help_and_names_wrong_usage_and_a_missing_setting(
    command: tuple[str, ...],
) -> None:
    code, output, errors = await run_command(*command, "--help")
    assert (code, errors) == (0, "")
    assert "usage: python -m" in output
    code, _, errors = await run_command(*command, "--nonsense")
    assert code == 2
    assert "Traceback" not in errors
    errors = await fail_in_one_line(2, *command, REDIS_URL="", DATABASE_URL="")
    assert "_URL: is not set (for example: " in errors


@pytest.mark.parametrize("module", MODULES)
async def test_python_m_ends_with_the_commands_exit_code(module: str) -> None:
    """The other tests fork their commands."""
    code, output, errors = await run_python(module, REDIS_URL="", DATABASE_URL="")
    assert (code, output) == (2, "")
    assert errors.count("\n") == 1, errors
    assert "_URL: is not set" in errors


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PORT": "http"}, "error: PORT: "),
        ({"ADMIN_HOST": "192.0.2.1"}, "error: ADMIN_HOST: "),  # of no machine, RFC 5737
        ({"HOST": "192.0.2.1"}, "error: HOST: 192.0.2.1:8000 can't be listened on"),
        ({"HOST": "a" * 64}, "error: HOST: "),
        ({"ADMIN_HOST": "a" * 64}, "error: ADMIN_HOST: "),
        (
            {"JWT_KEY": "no pem", "JWT_ALGORITHMS": "RS256"},
            "error: JWT_KEY: is not a key for RS256",
        ),
    ],
)
async def test_a_wrong_setting_is_2_and_is_named(settings: dict[str, str], said: str) -> None:
    code, _, errors = await run_command("collector", **{**NOWHERE, "JWT_KEY": "k" * 40, **settings})
    assert code == 2
    assert errors.splitlines()[-1].startswith(said)
    assert "Traceback" not in errors
    assert "no pem" not in errors


async def test_a_flusher_with_a_wrong_database_ends_though_nothing_waits(
    system: System, databases: Databases
) -> None:
    """Otherwise nobody would notice until the first session comes."""
    wrong = {
        system.database_url.replace("postgres@", "stranger@"): "stranger",
        await databases.create_empty("not_migrated"): "python -m flusher migrate",
    }
    for url, said in wrong.items():
        settings = system.environment | {"DATABASE_URL": url, "ADMIN_PORT": "0"}
        code, _, errors = await run_command("flusher", **settings)
        assert code == 2
        assert errors.splitlines()[-1].startswith("error: DATABASE_URL: ")
        assert said in errors.splitlines()[-1]
        assert "could not be left" not in errors


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
    errors = await fail_in_one_line(1, *command, **NOWHERE)
    assert errors.startswith("error: ")
    assert "/nowhere" not in errors, "a file is not blamed for it"


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def reader_that_left() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (full_disk, b"error: the output can't be written: No space left on device\n"),
        (reader_that_left, b""),
    ],
)
@pytest.mark.parametrize(
    ("command", "unbuffered"), [("report", ""), ("dead list", ""), ("check", "1")]
)
async def test_output_that_can_not_be_written_is_1_without_a_traceback(
    system: System, command: str, output: Callable[[], int], said: bytes, unbuffered: str
) -> None:
    """`dead list | head`."""
    file = output()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flusher", *command.split()),
        cwd=ROOT,
        env={**os.environ, **system.environment, "PYTHONUNBUFFERED": unbuffered},
        stdout=file,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(file)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (1, said)


@pytest.mark.parametrize(
    "command",
    [
        ("rotation", "status"),
        ("rotation", "rotate"),
        ("flusher", "status"),
        ("flusher", "dead", "list"),
    ],
    ids=" ".join,
)
async def test_a_url_that_its_server_refuses_is_2_and_is_named(
    command: tuple[str, ...], system: System, redis: Redis
) -> None:
    """As DATABASE_URL is. A password is missing or wrong, or there is no such database."""
    await redis.acl_setuser("someone", enabled=True, passwords=["+right"], commands=["+@all"])
    server = system.redis_url.removeprefix("redis://").removesuffix("/0")
    others = {"REDIS_URL": system.redis_url} if command[0] == "rotation" else system.environment
    setting = "SALT_REDIS_URL" if command[0] == "rotation" else "REDIS_URL"
    for url in (f"redis://someone:wrong@{server}", f"redis://{server}/999"):
        errors = await fail_in_one_line(2, *command, **others | {setting: url})
        assert errors.startswith(f"error: {setting}: the server refuses ")
        assert f"(for example: {setting}=redis" in errors
        assert "wrong@" not in errors
    await redis.acl_deluser("someone")


async def test_a_url_of_a_replica_is_told_from_a_server_that_is_away(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path, config={"replicaof": "127.0.0.1 1"}) as replica:
        errors = await fail_in_one_line(1, "rotation", "rotate", REDIS_URL=replica.url)
    assert "READONLY You can" in errors


async def test_rotate_does_nothing_while_the_month_has_its_salt(tmp_path: Path) -> None:
    """On a server that is reached by a unix socket, and later by TCP."""
    path = tmp_path / "a redis.socket"
    config = {"unixsocket": f'"{path}"', "requirepass": "secret"}
    with ValkeyServer(tmp_path / "redis", config=config) as server:
        socket = f"unix://:secret@{quote(str(path))}"
        for words, url, said in (
            ("rotate", socket, "the first was made"),
            ("rotate", socket, "nothing to do"),
            ("rotate --force", socket, "count twice"),
            ("rotate --force", f"redis://:secret@127.0.0.1:{server.port}", "count twice"),
            ("rotate --force", socket, "count twice"),
        ):
            output = await run_successfully("rotation", *words.split(), REDIS_URL=url)
            assert said in output


@pytest.mark.parametrize("module", MODULES)
async def test_sigint_ends_a_process_cleanly(running: PythonSystem, module: str) -> None:
    """Python has a handler of its own for it."""
    (program,) = await running.start(module)
    program.running.send_signal(signal.SIGINT)
    assert await program.exit_code() == 0, program.log
    assert "Traceback" not in program.log


async def test_several_collectors_share_one_port(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with admin pages of its own, though they were given the same port."""
    first = system.program("collector").start()
    await first.ready()  # before the other starts: who comes first has the admin port
    second = ForkedProgram("collector", first.environment, system.folder / "second.log").start()
    system.programs.append(second)

    async def listening() -> bool:
        assert second.running.poll() is None, second.log
        return "listening" in second.log

    await eventually(listening)
    monkeypatch.setattr("embedded.system._START_SECONDS", 0.2)
    with pytest.raises(AssertionError, match="is not ready"):
        await second.ready()  # it is the first that would say so there
    assert "another process has ADMIN_PORT" in second.log
    assert first.environment["ADMIN_PORT"] in second.log
    assert await first.stop() == 0
    assert await second.stop() == 0


COLOUR = b"\x1b["


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, system: System, *arguments: str, **environment: str) -> None:
        self.shown = b""
        self._end, other = pty.openpty()
        os.set_blocking(self._end, False)
        plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flusher", *arguments],
            cwd=ROOT,
            env={**plain, **system.environment, "TERM": "xterm-256color", **environment},
            stdin=other,
            stdout=other,
            stderr=other,
        )
        os.close(other)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._end)

    async def shows(self, text: bytes, times: int = 1) -> bytes:
        async def seen() -> bytes:
            with suppress(OSError):
                self.shown += os.read(self._end, 1 << 16)
            return self.shown

        return await eventually(seen, lambda shown: shown.count(text) >= times)

    async def end(self) -> int:
        code = await asyncio.to_thread(self.process.wait, 60)
        with suppress(OSError):
            self.shown += os.read(self._end, 1 << 16)
        return code


async def test_it_is_in_colour_on_a_terminal_unless_that_is_not_wanted(
    system: System, redis: Redis
) -> None:
    await redis.xadd(keys.dead_letters(3), {"e": "x"})
    with (
        Terminal(system, "status") as coloured,
        Terminal(system, "status", NO_COLOR="1") as colourless,
    ):
        assert [await coloured.end(), await colourless.end()] == [0, 0]
    assert b"\x1b[1;31m     1" in coloured.shown, "a dead letter is red"
    assert b"\x1b[3" not in colourless.shown
    code, output, errors = await run_command("flusher", "status", **system.environment)
    assert (code, errors) == (0, "")
    assert COLOUR.decode() not in output
    assert "dead letters:                 1" in output


async def test_it_can_be_watched_until_ctrl_c(system: System, redis: Redis) -> None:
    with Terminal(system, "status", "--watch") as watched:
        await watched.shows(b"dead letters:", 2)
        await redis.xadd(keys.dead_letters(3), {"e": "x"})
        await watched.shows(b"\x1b[1;31m1")
        watched.process.send_signal(signal.SIGINT)
        assert await watched.end() == 0, watched.shown
    assert b"Traceback" not in watched.shown
    assert watched.shown.endswith(b"\x1b[?25h"), "the cursor is back"


@pytest.mark.long
async def test_a_server_that_goes_away_does_not_end_the_watch(system: System) -> None:
    system.redis_url = "redis://127.0.0.1:1/0"
    with Terminal(system, "status", "--watch") as watched:
        await watched.shows(b"Redis does not answer", 2)
        watched.process.send_signal(signal.SIGINT)
        assert await watched.end() == 0, watched.shown


REDIS_AWAY = {"REDIS_URL": "redis://127.0.0.1:1/0"}
POSTGRES_AWAY = {"DATABASE_URL": "postgresql://postgres@127.0.0.1:1/impact"}
OF_REDIS = {"shards", "shards_away", "last_append", "dead_letters", "buffer"}
OF_POSTGRES = {"last_session", "upgrades_waiting"}


@pytest.mark.parametrize(
    ("away", "unknown", "servers"),
    [
        (REDIS_AWAY, OF_REDIS, ["redis"]),
        (POSTGRES_AWAY, OF_POSTGRES, ["postgres"]),
    ],
    ids=["Redis", "PostgreSQL"],
)
async def test_what_a_server_that_is_away_alone_knows_is_unknown_and_the_rest_is_shown(
    system: System,
    redis: Redis,
    database: Database,
    away: dict[str, str],
    unknown: set[str],
    servers: list[str],
) -> None:
    await SessionWriter(database, UTC).write(batch_of(start()))
    await redis.xadd(keys.stream(0), {"e": "x"})
    environment = system.environment | away
    code, output, errors = await run_command("flusher", "status", "--json", **environment)
    assert (code, errors) == (1, "")
    status = json.loads(output)
    assert {name for name, value in status.items() if value is None} == unknown
    assert list(status["away"]) == servers
    code, output, errors = await run_command("flusher", "status", **environment)
    assert (code, errors) == (1, "")
    assert output.count(": unknown\n") + output.count(":  unknown\n") >= 1
    assert ("Redis does not answer" in output) == ("redis" in servers)
    assert ("PostgreSQL can't be reached" in output) == ("postgres" in servers)


async def test_a_shard_that_gives_no_answer_is_named_and_is_1(system: System, redis: Redis) -> None:
    """As where one node of a cluster is away."""
    await redis.set(keys.stream(3), "no stream")
    code, output, errors = await run_command("flusher", "status", **system.environment)
    assert (code, errors) == (1, "")
    assert "no answer from the servers of the shards 3" in output
