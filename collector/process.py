"""The collector's process: its parts, and how it starts and ends."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from redis.asyncio import Redis

from collector.buffer.append import Appender, Writer
from collector.buffer.cluster_writer import ClusterWriter
from collector.buffer.durability import Durability
from collector.buffer.node_writer import NodeWriter
from collector.endpoints import Endpoints
from collector.http.common_headers import CommonHeaders
from collector.http.connections import Connections
from collector.http.server import Server
from collector.readiness import Readiness
from contract import settings
from contract.collector_metrics import CollectorMetrics
from contract.setting import Environment
from runtime.admin import AdminListener, make_registry
from runtime.clock import Clock
from runtime.cluster import Cluster
from runtime.logs import log_start
from runtime.redis_checks import redis_examinations
from runtime.redis_client import connect_redis
from runtime.redis_connection import RedisConnection
from runtime.restart import Restart, RestartTimer, listening_before
from runtime.server_checks import watch_servers
from runtime.service_manager import ServiceManager
from runtime.shards import Shards, connect_shards
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
# Thirty seconds after a salt's end nothing of it may be left here. After this delay come five
# seconds in which clients reconnect, at most ten for pending answers, and the start.
_RESTART_AFTER_SECONDS = 1.0, 8.0
# Far more than a probe of Redis takes; each of its steps has a time-out.
_LONGEST_PROBE_SECONDS = 600.0

log = structlog.get_logger()


async def serve(environment: Environment, clock: Clock) -> int | Restart:
    """Builds the collector from its settings and runs it. Returns the exit code, or Restart if it
    must restart in place because a salt that it held is over.
    """
    registry = make_registry()
    metrics = CollectorMetrics(registry)
    async with (
        _connect(environment, metrics) as redis,
        ServiceManager(environment) as service,
    ):
        collector = Collector(environment, clock, redis, metrics)
        log_start("collector", SETTINGS, environment)
        admin = AdminListener(
            settings.ADMIN_HOST.read(environment),
            ADMIN_PORT.read(environment),
            registry,
            collector.checks,
            collector.warnings,
        )
        return await collector.run(admin, service)


@dataclass(frozen=True, slots=True)
class _RedisServers:
    """A collector's connections to Redis: to the salt, to the streams' servers, and to append."""

    salt: SaltServer
    shards: Shards
    writer: Writer


class Collector:
    """Everything that runs in the process, except for the admin pages."""

    def __init__(
        self,
        environment: Environment,
        clock: Clock,
        redis: _RedisServers,
        metrics: CollectorMetrics,
    ) -> None:
        """
        Raises:
            Misconfigured: a setting is wrong.
        """
        self._address = settings.HOST.read(environment), settings.PORT.read(environment)
        self._stopping = Stopping()
        witnesses = partial(ask_witnesses, clock, redis.shards)
        zone = settings.CALENDAR_TIMEZONE.read(environment)
        store = SaltStore(redis.salt.redis, zone, witnesses)
        self._disposal = SaltDisposal(redis.salt, store)
        self._restart_timer = RestartTimer(*_RESTART_AFTER_SECONDS)
        self._salt = salt = MonthlySalt(store, dropped=self._restart_timer.is_over)
        metrics.clocks_disagree.set_function(lambda: salt.clock_doubt is not None)
        self._appender = Appender(redis.writer, settings.STREAM_SHARDS.read(environment))
        self._connections = Connections(settings.MAX_CONNECTIONS.read(environment), metrics)
        self._endpoints = Endpoints(environment, salt, self._appender, metrics)
        self._server = Server(
            CommonHeaders(clock, self._endpoints.sites.allows_origin),
            self._endpoints.sessions,
            metrics,
            self._connections,
            self._endpoints.pages,
            listening_before(environment),
        )
        durability = Durability(settings.APPEND_DURABILITY.read(environment))
        self._readiness = Readiness(redis.shards, self._appender, salt, durability, self._stopping)
        self._examinations = redis_examinations(
            redis.shards, clock, None if redis.salt.is_streams else redis.salt.redis
        )

    def checks(self) -> dict[str, str | None]:
        """Those of `/readyz`."""
        listening = None if self._server.is_listening else "no requests are accepted"
        return {"listening": listening} | self._readiness.checks()

    def warnings(self) -> dict[str, str | None]:
        """What an operator should look at."""
        return self._readiness.warnings() | self._endpoints.warnings()

    async def run(self, admin: AdminListener, service: ServiceManager) -> int | Restart:
        """Answers requests until it is asked to stop, or a salt that it held is over."""
        if self._endpoints.sites.allows_any:
            log.warning(
                "SITES=*: anybody can write any host name into the reports",
                to_do="name your sites in SITES",
            )
        self._connections.allow_files()
        self._stopping.install()
        clean, listening = True, None
        writing = asyncio.create_task(self._appender.run())
        following = self._follow(service)
        try:
            await admin.start()
            await self._readiness.look_at_restart()
            _collect_garbage_seldom()
            await self._server.start(*self._address)
            log.info("listening", address="{}:{}".format(*self._address))
            service.started()
            listening = await self._leave(
                to_restart=await self._restart_timer.is_due(self._stopping)
            )
            clean = self._appender.idle
        finally:
            self._stopping.set()
            if listening is not None:
                self._stopping.leave_signals()
            await _end(following, at_once=listening is not None)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await admin.close()
        code = _exit_code(clean=clean)
        return code if listening is None else Restart(listening)

    def _follow(self, service: ServiceManager) -> Sequence[asyncio.Task[None]]:
        """Begins what goes on beside requests."""
        return [
            asyncio.create_task(self._salt.keep_fresh(self._stopping)),
            asyncio.create_task(self._readiness.run(service.watch(_LONGEST_PROBE_SECONDS))),
            asyncio.create_task(self._connections.sweep(self._stopping)),
            asyncio.create_task(watch_servers(self._examinations, self._stopping)),
            asyncio.create_task(self._disposal.run(self._stopping)),
        ]

    async def _leave(self, *, to_restart: bool) -> list[socket.socket] | None:
        """Stops answering requests. Returns the sockets for the next program, if there is one."""
        if to_restart:
            log.info("restarting in place, so that nothing of the old salt stays in memory")
            return await self._server.hand_over()
        log.info("stopping: no new requests, answering what was accepted")
        await self._server.stop()
        return None


async def _end(following: Sequence[asyncio.Task[None]], *, at_once: bool) -> None:
    """Ends the background tasks.

    `at_once` cancels them, which could interrupt a command: only if clients wait for the next
    program.
    """
    if at_once:
        for task in following:
            task.cancel()
    await asyncio.gather(*following, return_exceptions=at_once)


def _collect_garbage_seldom() -> None:
    """Lets Python collect cyclic garbage every 20,000 objects instead of every 700, and excludes
    the objects that exist now.

    Requests make no cycles, but each waiting request was scanned several times, which took a tenth
    of its time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 10, 10)


def _exit_code(*, clean: bool) -> int:
    if not clean:
        log.warning("stopped with requests unanswered: their front-ends will send them again")
        return 1
    log.info("stopped")
    return 0


@asynccontextmanager
async def _connect(
    environment: Environment, metrics: CollectorMetrics
) -> AsyncIterator[_RedisServers]:
    """Connects to Redis until the end of the block."""
    async with (
        connect_salt(environment) as salt,
        connect_shards(environment) as shards,
        _connect_writer(environment, metrics) as writer,
    ):
        yield _RedisServers(salt, shards, writer)


@asynccontextmanager
async def _connect_writer(
    environment: Environment, metrics: CollectorMetrics
) -> AsyncIterator[Writer]:
    """The writer to the streams' servers, connected until the end of the block."""
    urls = settings.REDIS_URL.read(environment)
    durability = Durability(settings.APPEND_DURABILITY.read(environment))
    server: Cluster | Redis
    if settings.REDIS_CLUSTER.read(environment):
        server = cluster = Cluster(urls)
        shards = settings.STREAM_SHARDS.read(environment)
        writer: Writer = ClusterWriter(cluster, shards, RedisConnection, metrics, durability)
    else:
        server = redis = connect_redis(urls)
        writer = NodeWriter(lambda: RedisConnection(redis), metrics, durability)
    try:
        yield writer
    finally:
        await server.aclose()
