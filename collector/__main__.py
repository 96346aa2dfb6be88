"""`python -m collector`: answers front-ends' beacons until it is asked to stop."""

import argparse
import asyncio
import gc
import os
import socket
import sys
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import jwt
import structlog
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from collector.buffer.append import Appender, Writer
from collector.buffer.cluster_writer import ClusterWriter
from collector.buffer.durability import Durability
from collector.buffer.node_writer import NodeWriter
from collector.http.beacon import Beacon
from collector.http.connections import Connections
from collector.http.routes import Page
from collector.http.server import Server
from collector.readiness import Readiness
from collector.request.address_check import AddressCheck
from collector.request.caller import TokenVerifier
from collector.request.client_address import TrustedProxies
from collector.request.crawlers import CrawlerFilter
from collector.request.new_sites import NewSites
from collector.request.roles import Roles
from collector.request.site import SitePolicy
from collector.sessions import Sessions
from contract import settings
from contract.metrics import CollectorMetrics
from contract.settings import Environment
from runtime.admin import AdminListener
from runtime.afresh import Afresh, BeginningAnew, listening_before
from runtime.clock import Clock, wall_clock
from runtime.cluster import Cluster
from runtime.command import add_version, run_process
from runtime.logs import log_start
from runtime.redis_client import connect_redis
from runtime.redis_connection import RedisConnection
from runtime.redis_promises import redis_examinations
from runtime.registry import make_registry
from runtime.server_promises import watch_promises
from runtime.service_manager import ServiceManager
from runtime.shards import Shards, connect_shards
from runtime.stopping import Stopping
from salt.client import SaltServer, connect_salt
from salt.disposal import SaltDisposal
from salt.late_disposal import LateDisposal
from salt.month import MonthlySalt
from salt.store import SaltStore
from salt.witnesses import Witnesses

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

_OBJECTS_BETWEEN_LOOKS = 20_000
# Thirty seconds after a salt's end nothing of it may be left here. After this delay come five
# seconds in which clients reconnect, at most ten for pending answers, and the start.
ANEW_AFTER_SECONDS = 1.0, 8.0
# Far more than a probe of Redis takes; each of its steps has a time-out.
LONGEST_PROBE_SECONDS = 600.0

log = structlog.get_logger()


async def serve(environment: Environment, clock: Clock) -> int | Afresh:
    """Builds the collector from its settings and runs it. Returns the exit code, or Afresh if it
    must restart in place because a salt that it held is over.
    """
    registry = make_registry()
    metrics = CollectorMetrics(registry)
    async with (
        connect_salt(environment) as salt_server,
        connect_shards(environment) as shards,
        _connect_writer(environment, metrics) as writer,
        ServiceManager(environment) as service,
    ):
        return await _serve(
            environment, clock, registry, metrics, salt_server, shards, writer, service
        )


async def _serve(
    environment: Environment,
    clock: Clock,
    registry: CollectorRegistry,
    metrics: CollectorMetrics,
    salt_server: SaltServer,
    shards: Shards,
    writer: Writer,
    service: ServiceManager,
) -> int | Afresh:
    opinions = Witnesses(clock, shards).ask
    store = SaltStore(salt_server.redis, settings.CALENDAR_TIMEZONE.read(environment), opinions)
    disposal = SaltDisposal(salt_server, store)
    anew = BeginningAnew(*ANEW_AFTER_SECONDS)
    salt = MonthlySalt(store, dropped=anew.is_over)
    metrics.clocks_disagree.set_function(lambda: salt.clock_doubt is not None)
    addresses = AddressCheck(metrics)
    sites = SitePolicy(settings.SITES.read(environment))
    new_sites = NewSites(sites, settings.NEW_SITES_PER_MINUTE.read(environment), metrics)
    appender = Appender(writer, settings.STREAM_SHARDS.read(environment))
    connections = Connections(settings.MAX_CONNECTIONS.read(environment), metrics)
    server = build_server(
        environment, clock, metrics, salt, appender, addresses, connections, sites, new_sites
    )
    host, port = settings.HOST.read(environment), settings.PORT.read(environment)
    log_start("collector", SETTINGS, environment)
    if sites.allows_any:
        log.warning(
            "SITES=*: anybody can write any host name into the reports",
            to_do="name your sites in SITES",
        )
    connections.allow_files()
    stopping = Stopping()
    stopping.install()
    promises = redis_examinations(
        shards, clock, None if salt_server.is_streams else salt_server.redis
    )
    durability = Durability(settings.APPEND_DURABILITY.read(environment))
    readiness = Readiness(shards, appender, salt, durability, stopping)

    def checks() -> dict[str, str | None]:
        listening = None if server.is_listening else "no requests are accepted"
        return {"listening": listening} | readiness.checks()

    def warnings() -> dict[str, str | None]:
        return readiness.warnings() | addresses.warnings() | new_sites.warnings()

    admin = AdminListener(
        settings.ADMIN_HOST.read(environment),
        ADMIN_PORT.read(environment),
        registry,
        checks,
        warnings,
    )
    clean, listening = True, None
    writing = asyncio.create_task(appender.run())
    following = [
        asyncio.create_task(salt.keep_fresh(stopping)),
        asyncio.create_task(readiness.run(service.watch(LONGEST_PROBE_SECONDS))),
        asyncio.create_task(connections.sweep(stopping)),
        asyncio.create_task(watch_promises(promises, stopping)),
        asyncio.create_task(LateDisposal(store, disposal).run(stopping)),
    ]
    try:
        await admin.start()
        await readiness.look_at_restart()
        _look_for_cycles_seldom()
        await server.start(host, port)
        log.info("listening", address=f"{host}:{port}")
        service.started()
        listening = await _leave(server, to_begin_anew=await anew.is_due(stopping))
        clean = appender.idle
    finally:
        stopping.set()
        if listening is not None:
            stopping.leave_signals()
        await _end(following, at_once=listening is not None)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await admin.close()
    code = _exit_code(clean=clean)
    return code if listening is None else Afresh(listening)


async def _leave(server: Server, *, to_begin_anew: bool) -> list[socket.socket] | None:
    """Stops answering requests. Returns the sockets for the next program, if there is one."""
    if to_begin_anew:
        log.info("beginning anew, with nothing of the salt that is over left in memory")
        return await server.hand_over()
    log.info("stopping: no new requests, answering what was accepted")
    await server.stop()
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


def build_server(
    environment: Environment,
    clock: Clock,
    metrics: CollectorMetrics,
    salt: MonthlySalt,
    appender: Appender,
    addresses: AddressCheck,
    connections: Connections,
    sites: SitePolicy,
    new_sites: NewSites,
) -> Server:
    """The HTTP server, from the settings.

    Raises:
        Misconfigured: a setting is wrong.
    """
    verifier = TokenVerifier(
        settings.JWT_KEY.read(environment),
        settings.JWT_ALGORITHMS.read(environment),
        settings.JWT_AUDIENCE.read(environment),
        settings.JWT_USER_CLAIM.read(environment),
        Roles(settings.JWT_ROLE_CLAIM.read(environment), settings.JWT_ROLE_RANK.read(environment)),
        metrics,
        leeway_seconds=settings.JWT_LEEWAY_SECONDS.read(environment),
        require_expiry=settings.JWT_REQUIRE_EXPIRY.read(environment),
    )
    _warn_of_weak_key(verifier)
    sessions = Sessions(
        sites,
        CrawlerFilter(),
        verifier,
        TrustedProxies(
            settings.TRUSTED_PROXIES.read(environment),
            settings.CLIENT_ADDRESS_HEADER.read(environment),
        ),
        salt,
        appender,
        metrics,
        addresses,
        new_sites,
    )
    pages = [*Beacon(metrics).routes, *demo_pages(environment, metrics)]
    listening = listening_before(environment)
    return Server(clock, sessions, sites, metrics, connections, pages, listening)


def _warn_of_weak_key(verifier: TokenVerifier) -> None:
    for weakness in verifier.weaknesses:
        log.warning(
            "JWT_KEY is short: a person who guesses it can sign in as anybody",
            why=weakness,
            to_do="have the platform sign with a longer key, and set JWT_KEY to it: "
            "openssl rand -hex 32",
        )
    # Logged above; PyJWT would warn again at the first token, in its own form.
    warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)


def _look_for_cycles_seldom() -> None:
    """Lets Python collect cyclic garbage every 20,000 objects instead of every 700, and excludes
    the objects that exist now.

    Requests make no cycles, but each waiting request was scanned several times, which took a tenth
    of its time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_LOOKS, 10, 10)


def _exit_code(*, clean: bool) -> int:
    if not clean:
        log.warning("stopped with requests unanswered: their front-ends will send them again")
        return 1
    log.info("stopped")
    return 0


def demo_pages(environment: Environment, metrics: CollectorMetrics) -> Sequence[Page]:
    """The routes of `/demo` where DEMO is 1, and none otherwise.

    Raises:
        Misconfigured: a setting of the demo's is missing or wrong.
    """
    if not settings.DEMO.read(environment):
        return ()
    # Imported here: production has no demo, nor the PostgreSQL that it looks into.
    from collector.http.demo.pages import DemoPages  # noqa: PLC0415 - for the demo alone

    log.warning("DEMO=1: /demo is served, with a token that signs its user in; not in production")
    return DemoPages(
        settings.DATABASE_URL.read(environment), settings.DEMO_TOKEN.read(environment), metrics
    ).routes


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


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m collector",
        description="Counts sessions: answers front-ends' beacons and buffers them in Redis. "
        "Every setting comes from the environment (see docs/settings.md).",
    )
    add_version(parser)
    parser.parse_args()
    return run_process("collector", serve, os.environ, wall_clock)


if __name__ == "__main__":
    sys.exit(main())
