"""A program that restarts in place: clients that wait are answered, and no signal is lost."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.restart import Restart, RestartTimer
from runtime.stopping import Stopping
from tests.system import ROOT, until

PROGRAM = """
import asyncio, os, signal, socket, sys
from runtime.restart import Restart, listening_before
from runtime.clock import wall_clock
from runtime.command import run_process
from runtime.stopping import Stopping

async def main(environment, clock):
    stopping = Stopping()
    stopping.install()
    before = listening_before(environment)
    if not before:
        listening = socket.create_server(("127.0.0.1", 0))
        print(os.getpid(), listening.getsockname()[1], flush=True)
        asked_to_stop = (await asyncio.to_thread(sys.stdin.readline)).strip()
        if asked_to_stop == "in the same turn":
            os.kill(os.getpid(), signal.SIGTERM)
        stopping.leave_signals()
        if asked_to_stop == "by another thread":
            await asyncio.to_thread(signal.raise_signal, signal.SIGTERM)
        return Restart([listening])
    (listening,) = before
    listening.settimeout(60)
    with listening.accept()[0] as client:
        client.sendall(str(os.getpid()).encode())
    print("answered", flush=True)
    await stopping.wait()
    print("stopped", flush=True)
    return 0

sys.exit(run_process("test", main, os.environ, wall_clock))
"""


@pytest.fixture
async def process() -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that waits for the request to restart."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM), cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    yield process
    if process.returncode is None:
        process.kill()
    await process.wait()


@pytest.mark.parametrize(
    "when", ["before", "in the same turn", "by another thread", "while it begins", "afterwards"]
)
async def test_clients_that_wait_are_answered_whenever_the_program_is_asked_to_stop(
    process: asyncio.subprocess.Process, when: str
) -> None:
    """By the next program of the same process."""
    assert process.stdin is not None
    assert process.stdout is not None
    number, port = map(int, (await process.stdout.readline()).split())
    assert number == process.pid
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if when == "before":
        process.terminate()
    process.stdin.write(f"{when}\n".encode())  # it restarts, and may signal itself
    if when == "while it begins":
        # The next program does not handle signals yet.
        environment = Path(f"/proc/{process.pid}/environ")
        await until(lambda: b"IMPACT_LISTENING_FILES" in environment.read_bytes())
        process.terminate()
    assert int(await reader.read()) == process.pid
    writer.close()
    assert await process.stdout.readline() == b"answered\n"
    if when == "afterwards":
        process.terminate()
    assert await process.stdout.readline() == b"stopped\n"
    assert await process.wait() == 0


def test_a_program_that_is_not_there_any_more_ends_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when the folder with it was replaced: its supervisor starts it again."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setitem(os.environ, "IMPACT_LISTENING_FILES", "")
    assert Restart().begin() == 1
    assert "could not restart in place" in capsys.readouterr().out


async def test_it_is_due_a_while_after_it_is_over_and_never_once_asked_to_stop() -> None:
    stopping, restart_timer = Stopping(), RestartTimer(0.0, 0.0)
    due = asyncio.create_task(restart_timer.is_due(stopping))
    await asyncio.sleep(0)  # the task has a turn
    assert not due.done()
    restart_timer.is_over()
    assert await due

    restart_timer = RestartTimer(3600.0, 3600.0)
    restart_timer.is_over()
    due = asyncio.create_task(restart_timer.is_due(stopping))
    stopping.set()
    assert not await due
