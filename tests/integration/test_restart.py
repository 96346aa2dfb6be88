"""A program that restarts in place: clients that wait are answered, and no signal is lost."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runtime.restart import Restart, RestartTimer, listening_before
from runtime.stopping import Stopping
from tests.system import ROOT, eventually

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


class Begun:
    """A program that waits for the request to restart."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.port = 0

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().strip()

    def restart(self, asked_to_stop: str = "") -> None:
        """`asked_to_stop`: whether it is to signal itself, and when."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{asked_to_stop}\n".encode())

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@asynccontextmanager
async def program() -> AsyncIterator[Begun]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        begun = Begun(process)
        number, port = (await begun.line()).split()
        assert int(number) == process.pid
        begun.port = int(port)
        yield begun
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize(
    "when", ["before", "in the same turn", "by another thread", "while it begins", "afterwards"]
)
async def test_clients_that_wait_are_answered_whenever_the_program_is_asked_to_stop(
    when: str,
) -> None:
    """By the next program of the same process."""
    async with program() as begun:
        reader, writer = await asyncio.open_connection("127.0.0.1", begun.port)
        if when == "before":
            begun.stop()
        begun.restart(when)
        if when == "while it begins":
            await _has_restarted(begun.process.pid)
            begun.stop()
        assert int(await reader.read()) == begun.process.pid
        writer.close()
        assert await begun.line() == "answered"
        if when == "afterwards":
            begun.stop()
        assert await begun.line() == "stopped"
        assert await begun.process.wait() == 0


async def _has_restarted(pid: int) -> None:
    """Waits for the moment in which the next program does not handle signals yet."""
    environment = Path(f"/proc/{pid}/environ")
    await eventually(
        lambda: asyncio.to_thread(environment.read_bytes),
        lambda found: b"IMPACT_LISTENING_FILES" in found,
    )


def test_a_program_that_is_not_there_any_more_ends_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when the folder with it was replaced: its supervisor starts it again."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setitem(os.environ, "IMPACT_LISTENING_FILES", "")
    assert Restart().begin() == 1
    assert "could not restart in place" in capsys.readouterr().out


def test_at_its_start_a_program_has_no_sockets_of_another() -> None:
    assert listening_before({}) == []


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
