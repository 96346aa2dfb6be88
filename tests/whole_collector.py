"""All of a collector but Redis, and a connection to it without a network."""

import asyncio
import random
from typing import Any, cast

from prometheus_client import CollectorRegistry

from collector.buffer.append import Appender
from collector.buffer.pending import OnResult
from collector.examination import Examination
from collector.http.answering import CommonHeaders
from collector.http.connections import Connections
from collector.http.server import Server
from collector.sessions import Sessions
from contract.collector_metrics import CollectorMetrics
from contract.record import SessionStarted, SessionUpgraded, decode
from contract.setting import Environment
from salt.month import MonthlySalt
from salt.term import Salt
from tests.instant import MONTH, NOON_US, clock


class FixedSalt:
    def now(self) -> tuple[Salt, int]:
        return Salt(MONTH, NOON_US - 1, NOON_US + 1, b"s" * 32), NOON_US


class Stored:
    """What was appended, by site; acknowledged after a while."""

    def __init__(self) -> None:
        self.of_site: dict[str, list[tuple[object, ...]]] = {}
        self._waits = random.Random(3)  # noqa: S311 - the same each time

    def append(self, _: bytes, record: bytes, answered: OnResult) -> None:
        event = decode(record)
        assert isinstance(event, SessionStarted | SessionUpgraded)
        hash_ = getattr(event, "monthly_user_hash", None) or getattr(event, "user_hash", None)
        self.of_site.setdefault(event.site, []).append((type(event).__name__, hash_))
        asyncio.get_running_loop().call_later(self._waits.choice((0, 0, 0.001)), answered, None)


class Collector:
    """All of a collector but Redis."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        metrics = CollectorMetrics(self.registry)
        self.stored = Stored()
        settings = {"SITES": "*.example.org", "TRUSTED_PROXIES": "127.0.0.0/8"}
        appender = cast("Appender", self.stored)
        self.connections = Connections(10_000, metrics)
        self.server = Server(*make_sessions(settings, appender, metrics), metrics, self.connections)


def make_sessions(
    settings: Environment, appender: Appender, metrics: CollectorMetrics
) -> tuple[CommonHeaders, Sessions]:
    """The headers of answers and the endpoints with these settings, without a limit on new sites.
    The salt is in memory.
    """
    always = {"JWT_KEY": "k" * 32, "NEW_SITES_PER_MINUTE": "1000000"}
    examination = Examination({**always, **settings}, metrics)
    headers = CommonHeaders(clock, examination.sites.allows_origin)
    return headers, Sessions(examination, cast("MonthlySalt", FixedSalt()), appender, metrics)


class Transport(asyncio.Transport):
    """A client's end of a connection. It keeps what it receives."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self.received = b""
        self.ended = asyncio.Event()
        self._closing = False
        self.paused = False
        protocol.connection_made(self)

    def send(self, data: bytes) -> None:
        if not self._closing:
            self._protocol.data_received(data)

    def send_eof(self) -> None:
        if not self._closing and not self._protocol.eof_received():
            self.close()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)

    def write(self, data: Any) -> None:
        assert not self._closing
        self.received += data

    def write_eof(self) -> None:
        """The client closes then."""
        self._loop.call_soon(self.close)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._lost)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is kept back."""

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def _lost(self) -> None:
        self._protocol.connection_lost(None)
        self.ended.set()
