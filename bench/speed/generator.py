"""`python -m bench.speed.generator`: load from a process of its own, cheaper than what it measures.

Closed loop: each connection sends its next request when it has its answer. Open loop (`--rate`):
requests are due at instants that do not depend on the answers (a Poisson process, on a grid of one
millisecond, which is as finely as the event loop keeps time), and a latency counts from when the
request was due, whether or not a connection was free then: a server that stalls is charged with all
that it kept waiting (no coordinated omission).

It prints one line of JSON, a `Load`. Own code: every client there is costs more than the collector.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from array import array
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from bench.speed.beacons import Beacons

_GRID_SECONDS = 0.001
_LAST_ANSWERS_SECONDS = 10.0
_PERCENTILES = (50, 90, 99, 99.9)


@dataclass(frozen=True, slots=True)
class Load:
    """What was sent, and what came back."""

    seconds: float  # the part that counts
    answered: int  # in that part
    statuses: dict[str, int]  # of all, with the warming up
    unanswered: int
    cpu_seconds: float  # of this process, in the part that counts
    latencies_ms: dict[str, float]  # percentiles, by their names: "p99"

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, generator: "_Generator") -> None:
        self._generator = generator
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def send(self, due: float) -> None:
        self.due = due
        if self._transport is not None:
            self._transport.write(self._generator.beacon())

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        head_end = data.find(b"\r\n\r\n") + 4
        if head_end < 4 or len(data) < head_end + self._generator.body_length(data[:head_end]):
            self._received = data
            return
        self._received = b""
        self._generator.answered(self, data[9:12])

    def connection_lost(self, exc: Exception | None) -> None:
        self._generator.lost(exc)


class _Generator:
    def __init__(self, host: str, port: int, rate: float | None) -> None:
        self.beacon = Beacons(f"{host}:{port}")
        self._address = host, port
        self._rate = rate
        self._lengths: dict[bytes, int] = {}
        self._statuses: Counter[bytes] = Counter()
        self._latencies = array("f")
        self._free: deque[_Connection] = deque()
        self._due: deque[float] = deque()
        self._waiting = 0
        self._sending = True
        self._counting = False
        self._counted = 0
        self._now = time.perf_counter
        self._ended = asyncio.Event()
        self._lost: Exception | None = None

    def body_length(self, head: bytes) -> int:
        """The Content-Length of a head. Heads recur: all that differs is their `Date`."""
        length = self._lengths.get(head)
        if length is None:
            at = head.lower().find(b"\r\ncontent-length:")
            length = 0 if at < 0 else int(head[at + 17 :].partition(b"\r\n")[0])
            self._lengths[head] = length
        return length

    def answered(self, connection: _Connection, status: bytes) -> None:
        self._statuses[status] += 1
        if self._counting:
            self._counted += 1
            if self._rate is not None:
                self._latencies.append(self._now() - connection.due)
        if self._rate is None and self._sending:
            connection.send(0.0)
        elif self._due:
            connection.send(self._due.popleft())
        else:
            self._waiting -= 1
            self._free.append(connection)
            if self._waiting == 0 and not self._sending:
                self._ended.set()

    def lost(self, error: Exception | None) -> None:
        if self._sending or self._waiting:
            self._lost = error or ConnectionError("the server closed a connection")

    async def run(self, connections: int, warm_seconds: float, seconds: float) -> Load:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, connection = await loop.create_connection(lambda: _Connection(self), *self._address)
            self._free.append(connection)
        sending = None
        if self._rate is None:
            while self._free:
                self._waiting += 1
                self._free.popleft().send(0.0)
        else:
            sending = asyncio.create_task(self._send_what_is_due(self._rate))
        await asyncio.sleep(warm_seconds)
        began, cpu_began = self._now(), time.process_time()
        self._counting = True
        await asyncio.sleep(seconds)
        self._counting = False
        took, cpu_took = self._now() - began, time.process_time() - cpu_began
        self._sending = False
        if sending is not None:
            sending.cancel()
        if self._waiting:
            try:
                async with asyncio.timeout(_LAST_ANSWERS_SECONDS):
                    await self._ended.wait()
            except TimeoutError:
                pass
        if self._lost is not None:
            raise self._lost
        return Load(
            took,
            self._counted,
            {status.decode(): count for status, count in self._statuses.items()},
            self._waiting + len(self._due),
            cpu_took,
            self._percentiles(),
        )

    async def _send_what_is_due(self, rate: float) -> None:
        dice = random.Random(1)
        due = self._now()
        while True:
            # An interval of a Poisson process, and the next line of the grid behind it.
            due += dice.expovariate(rate)
            at = (due // _GRID_SECONDS + 1) * _GRID_SECONDS
            while (left := at - self._now()) > 0:  # noqa: ASYNC110 - it is time that is waited for
                await asyncio.sleep(left)
            if self._free:
                self._waiting += 1
                self._free.popleft().send(at)
            else:
                self._due.append(at)

    def _percentiles(self) -> dict[str, float]:
        ordered = sorted(self._latencies)
        return {
            f"p{percent:g}": 1000
            * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
            for percent in _PERCENTILES
            if ordered
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.speed.generator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--warm", type=float, default=0.5, help="seconds that don't count")
    parser.add_argument("--seconds", type=float, default=4.0, help="default: %(default)s")
    parser.add_argument("--rate", type=float, help="requests a second: open loop")
    arguments = parser.parse_args()

    async def generate() -> Load:
        generator = _Generator(arguments.host, arguments.port, arguments.rate)
        return await generator.run(arguments.connections, arguments.warm, arguments.seconds)

    print(json.dumps(asdict(uvloop.run(generate()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
