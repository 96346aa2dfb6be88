"""Servers under load: the server on one core, the load and the databases on the other."""

import json
import socket
from contextlib import suppress
from dataclasses import dataclass

from bench.speed.benchmark import Run, Unsound
from bench.speed.machine import cpu_seconds, on_core
from embedded.ports import find_free_port
from embedded.system import Program, eventually, run_command

SERVER_CORE, OTHER_CORE = 0, 1
_TIMES_AS_FAST = 2.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One contender under load, once: what was sent and answered."""

    seconds: float  # the part that counts
    answered: int  # in that part
    statuses: dict[str, int]  # of all, with the warm-up
    unanswered: int
    latencies_ms: dict[str, float]  # percentiles, by their names: "p99"
    cpu_seconds: float  # of the server, for all that it was sent

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds

    @property
    def stored(self) -> int:
        """Requests that were answered 201: all, with the warm-up."""
        return self.statuses["201"]

    @property
    def per_cpu_second(self) -> float:
        """Requests a second of the server's CPU time: other load on the machine matters less."""
        return self.stored / self.cpu_seconds


@dataclass(frozen=True, slots=True)
class Server:
    """Our collector, or a server that it is compared with."""

    port: int
    program: Program

    @property
    def pid(self) -> int:
        return self.program.running.pid


async def start_baseline(run: Run, name: str, *arguments: str) -> Server:
    """Runs `python -m bench.speed.baselines NAME` on the server's core."""
    port = find_free_port()
    words = (name, "--port", str(port), *arguments)
    program = Program("bench.speed.baselines", {}, run.folder / f"{name}.log", words)

    async def listens() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    with on_core(SERVER_CORE):
        program.start()
    run.stack.callback(program.kill)
    await eventually(listens)
    return Server(port, program)


async def put_load(
    server: Server,
    seconds: float,
    *,
    rate: float | None = None,
    warm: float = 0.5,
    connections: int = 64,
) -> Turn:
    """Sends beacons to a server, for `warm` seconds and then for `seconds` that are measured.

    With a `rate`, so many a second, in an open loop; else as many as are answered.

    Raises:
        Unsound: the generator failed, or a request was not answered with 201.
    """
    asked = {"port": server.port, "connections": connections, "warm": warm, "seconds": seconds}
    before = cpu_seconds(server.pid)
    with on_core(OTHER_CORE):
        words = json.dumps({**asked, "rate": rate})
        code, output, errors = await run_command("bench.speed.generator", words)
    if code:
        raise Unsound(f"the generator failed: {errors[-500:]}")
    turn = Turn(**json.loads(output), cpu_seconds=cpu_seconds(server.pid) - before)
    if turn.unanswered or set(turn.statuses) != {"201"}:
        raise Unsound(f"{turn.unanswered} requests were not answered, the others {turn.statuses}")
    return turn


async def check_generator(run: Run, seconds: float, measured: float) -> str:
    """A note of how much faster the generator is than what it measured.

    Its own limit is what it makes when the answer costs almost nothing.

    Raises:
        Unsound: it is not fast enough: then the generator was measured.
    """
    canned = await start_baseline(run, "canned")
    limit = (await put_load(canned, seconds)).per_second
    times = limit / measured
    note = (
        f"The generator alone makes {limit:,.0f} requests/s, {times:.1f} times the measured most."
    )
    if times < _TIMES_AS_FAST:
        raise Unsound(note)
    return note
