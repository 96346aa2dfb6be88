"""`python -m bench.speed.generator JSON`: load from a process of its own, cheaper than a server.

Closed loop: each connection sends its next request when it has its answer. Open loop (`rate`):
requests are due at instants that do not depend on the answers (a Poisson process, on a grid of one
millisecond, the resolution of the event loop). A latency counts from the instant at which the
request was due, even if no connection was free then. So if a server stalls, every request that
waited counts (no coordinated omission).

Its argument has `port`, `rate` (null: closed loop) and the parameters of `_Generator.run`, whose
result it prints. Both are JSON. Own code: other clients cost more CPU than the collector.
"""

import asyncio
import json
import random
import sys
import time
from array import array
from collections import Counter, deque
from contextlib import suppress
from functools import cache
from typing import cast

import uvloop

from bench.speed.beacons import beacons

_HOST = "127.0.0.1"
_GRID_SECONDS = 0.001
_LAST_ANSWERS_SECONDS = 10.0
_PERCENTILES = (50, 90, 99, 99.9)


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
            self._transport.write(next(self._generator.beacons))

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        head_end = data.find(b"\r\n\r\n") + 4
        if head_end < 4 or len(data) < head_end + _body_length(data[:head_end]):
            self._received = data
            return
        self._received = b""
        self._generator.answered(self, data[9:12])


@cache
def _body_length(head: bytes) -> int:
    """The Content-Length of a head. Most heads are the same: only their `Date` differs."""
    at = head.lower().find(b"\r\ncontent-length:")
    return 0 if at < 0 else int(head[at + 17 :].partition(b"\r\n")[0])


class _Generator:
    def __init__(self, port: int, rate: float | None) -> None:
        self.beacons = beacons(f"{_HOST}:{port}")
        self._port = port
        self._rate = rate
        self._statuses: Counter[bytes] = Counter()
        self._latencies = array("f")
        self._free: deque[_Connection] = deque()
        self._due: deque[float] = deque()
        self._waiting = 0
        self._sending = True
        self._counting = False
        self._now = time.perf_counter
        self._ended = asyncio.Event()

    def answered(self, connection: _Connection, status: bytes) -> None:
        self._statuses[status] += 1
        if self._counting:
            self._latencies.append(self._now() - connection.due)
        if self._rate is None and self._sending:
            connection.send(self._now())
        elif self._due:
            connection.send(self._due.popleft())
        else:
            self._waiting -= 1
            self._free.append(connection)
            if self._waiting == 0 and not self._sending:
                self._ended.set()

    async def run(self, connections: int, warm: float, seconds: float) -> dict[str, object]:
        """Sends for `warm` seconds, which do not count, and for `seconds`.

        The fields of a `contender.Turn`, without the server's CPU time.
        """
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, connection = await loop.create_connection(
                lambda: _Connection(self), _HOST, self._port
            )
            self._free.append(connection)
        sending = asyncio.create_task(self._send())
        await asyncio.sleep(warm)
        began = self._now()
        self._counting = True
        await asyncio.sleep(seconds)
        self._counting = self._sending = False
        took = self._now() - began
        sending.cancel()
        if self._waiting:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _LAST_ANSWERS_SECONDS)
        statuses = {status.decode(): count for status, count in self._statuses.items()}
        return {
            "seconds": took,
            "answered": len(self._latencies),
            "statuses": statuses,
            "unanswered": self._waiting + len(self._due),
            "latencies_ms": self._percentiles(),
        }

    async def _send(self) -> None:
        while self._rate is None and self._free:
            self._waiting += 1
            self._free.popleft().send(self._now())
        dice = random.Random(1)
        due = self._now()
        while self._rate is not None:
            # An interval of a Poisson process, rounded up to the grid.
            due += dice.expovariate(self._rate)
            at = (due // _GRID_SECONDS + 1) * _GRID_SECONDS
            while (left := at - self._now()) > 0:  # noqa: ASYNC110 - it waits for a time
                await asyncio.sleep(left)
            if self._free:
                self._waiting += 1
                self._free.popleft().send(at)
            else:
                self._due.append(at)

    def _percentiles(self) -> dict[str, float]:
        ordered = sorted(self._latencies)
        return {
            f"p{percent:g}": 1000 * ordered[int(len(ordered) * percent / 100)]
            for percent in _PERCENTILES
            if ordered
        }


def main() -> None:
    asked = json.loads(sys.argv[1])
    generator = _Generator(asked.pop("port"), asked.pop("rate"))
    print(json.dumps(uvloop.run(generator.run(**asked))))


if __name__ == "__main__":
    main()
