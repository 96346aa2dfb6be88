"""Builds the collector from its settings, runs it, and stops it."""

import asyncio
import gc
import socket
from collections.abc import Sequence
from functools import partial

import structlog

from collector.buffer.append import Appender, Writer
from collector.buffer.cluster_writer import ClusterWriter
from collector.buffer.durability import Durability
from collector.buffer.node_writer import NodeWriter
from collector.examination import Examination
from collector.http.answering import CommonHeaders
from collector.http.beacon import Beacon
from collector.http.connections import Connections
from collector.http.routes import Page
from collector.http.server import Server
from collector.readiness import Readiness
from collector.sessions import Sessions
from contract import settings
from contract.collector_metrics import CollectorMetrics
from contract.setting import Environment
from runtime.admin import make_registry, serve_admin
from runtime.clock import Clock
from runtime.logs import log_start
from runtime.redis_checks import redis_examinations
from runtime.redis_connection import RedisConnection
from runtime.restart import Restart, RestartTimer, listening_before
from runtime.server_checks import watch_servers
from runtime.service_manager import ServiceManager
from runtime.shards import ClusterShards, Shards, connect_shards
from runtime.stopping import Stopping
from salt.client import SaltServer, connect_salt
from salt.disposal import SaltDisposal
from salt.month import MonthlySalt
from salt.store import SaltStore
from salt.witnesses import ask_witnesses

ADMIN_PORT = settings.admin_port(9100)
SETTINGS = (
    settings.REDIS_URL,
    settings.REDIS_CLUSTER,
    settings.SALT_REDIS_URL,
    settings.HOST,
    settings.PORT,
    settings.MAX_CONNECTIONS,
    settings.ADMIN_HOST,
    ADMIN_PORT,
    settings.SITES,
    settings.NEW_SITES_PER_MINUTE,
    settings.TRUSTED_PROXIES,
    settings.CLIENT_ADDRESS_HEADER,
    settings.JWT_KEY,
    settings.JWT_ALGORITHMS,
    settings.JWT_AUDIENCE,
    settings.JWT_USER_CLAIM,
    settings.JWT_ROLE_CLAIM,
    settings.JWT_ROLE_RANK,
    settings.JWT_LEEWAY_SECONDS,
    settings.JWT_REQUIRE_EXPIRY,
    settings.CALENDAR_TIMEZONE,
    settings.STREAM_SHARDS,
    settings.APPEND_DURABILITY,
    settings.LOG_LEVEL,
    settings.LOG_FORMAT,
)

_OBJECTS_BETWEEN_COLLECTIONS = 20_000
# Nothing of a salt may be in memory thirty seconds after its end. After this delay, clients have
# five seconds to reconnect, pending answers have ten, and then the program starts.
_RESTART_AFTER_SECONDS = 1.0, 8.0
# Far more than a probe of Redis takes, because each of its steps has a time-out.
_LONGEST_PROBE_SECONDS = 600.0

log = structlog.get_logger()


async def serve(environment: Environment, clock: Clock) -> int | Restart:
    """Runs the collector until it is asked to stop, or must restart in place after a salt's end.

    Returns:
        The exit code, or Restart.

    Raises:
        Misconfigured: a setting is wrong.
    """
    registry = make_registry()
    metrics = CollectorMetrics(registry)
    async with (
        connect_salt(environment) as salt,
        connect_shards(environment) as shards,
        ServiceManager(environment) as service,
    ):
        collector = Collector(environment, clock, metrics, salt, shards)
        log_start("collector", SETTINGS, environment)
        async with serve_admin(
            environment, ADMIN_PORT, registry, collector.checks, collector.warnings
        ):
            return await collector.run(service)


class Collector:
    """Everything that runs in the process, except the admin pages."""

    def __init__(
        self,
        environment: Environment,
        clock: Clock,
        metrics: CollectorMetrics,
        salt_server: SaltServer,
        shards: Shards,
    ) -> None:
        self._address = settings.HOST.read(environment), settings.PORT.read(environment)
        self._stopping = Stopping()
        witnesses = partial(ask_witnesses, clock, shards)
        zone = settings.CALENDAR_TIMEZONE.read(environment)
        store = SaltStore(salt_server.redis, zone, witnesses)
        self._disposal = SaltDisposal(salt_server, store)
        self._restart_timer = RestartTimer(*_RESTART_AFTER_SECONDS)
        self._salt = salt = MonthlySalt(store, dropped=self._restart_timer.is_over)
        metrics.clocks_disagree.set_function(lambda: salt.clock_doubt is not None)
        durability = Durability(settings.APPEND_DURABILITY.read(environment))
        self._writer = _make_writer(shards, metrics, durability)
        appender = Appender(self._writer, shards.count)
        self._connections = Connections(settings.MAX_CONNECTIONS.read(environment), metrics)
        self._examination = Examination(environment, metrics)
        self._server = Server(
            CommonHeaders(clock, self._examination.sites.allows_origin),
            Sessions(self._examination, salt, appender, metrics),
            metrics,
            self._connections,
            pages(environment, metrics),
            listening_before(environment),
        )
        self._readiness = Readiness(shards, appender, salt, durability, self._stopping)
        self._examinations = redis_examinations(
            shards, clock, None if salt_server.is_streams else salt_server.redis
        )

    def checks(self) -> dict[str, str | None]:
        """The checks of `/readyz`: for each the problem, or None."""
        listening = None if self._server.is_listening else "no requests are accepted"
        return {"listening": listening} | self._readiness.checks()

    def warnings(self) -> dict[str, str | None]:
        """Problems that an operator should know, in the same form."""
        return self._readiness.warnings() | self._examination.warnings()

    async def run(self, service: ServiceManager) -> int | Restart:
        """Answers requests, as long as `serve` says."""
        if self._examination.sites.allows_any:
            log.warning(
                "SITES=*: anybody can write any host name into the reports",
                to_do="name your sites in SITES",
            )
        self._connections.allow_files()
        self._stopping.install()
        all_answered, listening = True, None
        writing = asyncio.create_task(self._writer.run())
        background = self._start_background(service)
        try:
            await self._readiness.check_restart()
            _collect_garbage_seldom()
            await self._server.start(*self._address)
            log.info("listening", address="{}:{}".format(*self._address))
            service.started()
            listening = await self._leave(
                to_restart=await self._restart_timer.is_due(self._stopping)
            )
            all_answered = self._writer.idle
        finally:
            self._stopping.set()
            if listening is not None:
                self._stopping.leave_signals()
            await _end(background, at_once=listening is not None)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        if all_answered:
            log.info("stopped")
        else:
            log.warning("stopped with requests unanswered: their front-ends will send them again")
        if listening is not None:
            return Restart(listening)
        return 0 if all_answered else 1

    def _start_background(self, service: ServiceManager) -> Sequence[asyncio.Task[None]]:
        return [
            asyncio.create_task(self._salt.keep_fresh(self._stopping)),
            asyncio.create_task(self._readiness.run(service.watch(_LONGEST_PROBE_SECONDS))),
            asyncio.create_task(self._connections.sweep(self._stopping)),
            asyncio.create_task(watch_servers(self._examinations, self._stopping)),
            asyncio.create_task(self._disposal.run(self._stopping)),
        ]

    async def _leave(self, *, to_restart: bool) -> list[socket.socket] | None:
        """Stops answering requests. Returns the sockets for the next program if it restarts."""
        if to_restart:
            log.info("restarting in place, so that nothing of the old salt stays in memory")
            return await self._server.hand_over()
        log.info("stopping: no new requests, answering what was accepted")
        await self._server.stop()
        return None


def pages(environment: Environment, metrics: CollectorMetrics) -> Sequence[Page]:
    """The routes of the beacon, and those of `/demo` if DEMO is 1."""
    beacon = Beacon(metrics).routes
    if not settings.DEMO.read(environment):
        return beacon
    # Imported here: only the demo needs asyncpg.
    from collector.http.demo.pages import DemoPages  # noqa: PLC0415 - see above

    log.warning("DEMO=1: /demo is served, with a token that signs its user in; not in production")
    token = settings.DEMO_TOKEN.read(environment)
    return [*beacon, *DemoPages(settings.DATABASE_URL.read(environment), token, metrics).routes]


async def _end(background: Sequence[asyncio.Task[None]], *, at_once: bool) -> None:
    """Waits for the end of the background tasks.

    `at_once` cancels them, which could interrupt a command. It is for a restart in place, while
    clients wait for the next program.
    """
    if at_once:
        for task in background:
            task.cancel()
    await asyncio.gather(*background, return_exceptions=at_once)


def _collect_garbage_seldom() -> None:
    """Lets Python collect cyclic garbage every 20,000 objects instead of every 700, without the
    objects that exist now. Requests make no cycles, but scanning waiting ones took a tenth of their
    time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 10, 10)


def _make_writer(shards: Shards, metrics: CollectorMetrics, durability: Durability) -> Writer:
    if isinstance(shards, ClusterShards):
        return ClusterWriter(shards.cluster, shards.count, metrics, durability)
    return NodeWriter(partial(RedisConnection, shards.redis), metrics, durability)
