"""`python -m flusher status` for people: in colour on a terminal, plain elsewhere, and live."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Self
from zoneinfo import ZoneInfo

import pytest
from redis.asyncio import Redis

from contract import keys
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from tests.events import batch_of, start
from tests.system import ROOT, System, eventually, run_command

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
        (REDIS_AWAY | POSTGRES_AWAY, OF_REDIS | OF_POSTGRES, ["redis", "postgres"]),
    ],
    ids=["Redis", "PostgreSQL", "both"],
)
async def test_what_a_server_that_is_away_alone_knows_is_unknown_and_the_rest_is_shown(
    system: System,
    redis: Redis,
    database: Database,
    away: dict[str, str],
    unknown: set[str],
    servers: list[str],
) -> None:
    await SessionWriter(database, ZoneInfo("UTC")).write(batch_of(start()))
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


async def test_json_is_not_for_watching() -> None:
    code, _, errors = await run_command("flusher", "status", "--json", "--watch")
    assert code == 2
    assert "not allowed with" in errors
