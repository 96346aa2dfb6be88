"""`python -m collector`: answers front-ends' beacons until it is asked to stop."""

import argparse
import asyncio
import os
import sys

import structlog
from prometheus_client import CollectorRegistry

from collector.address_check import AddressCheck
from collector.append import Appender, Durability
from collector.caller import TokenVerifier
from collector.client_address import TrustedProxies
from collector.crawlers import CrawlerFilter
from collector.late_disposal import LateDisposal
from collector.monthly_salt import MonthlySalt
from collector.server import Server
from collector.sessions import Sessions
from collector.site import SitePolicy
from contract import settings
from contract.metrics import CollectorMetrics
from contract.settings import Environment
from process.admin import AdminListener
from process.command import run_command
from process.logs import configure_logging
from process.redis_client import connect_redis, connect_replica
from process.salt_disposal import SaltDisposal
from process.salt_store import SaltStore
from process.stopping import Stopping

ADMIN_PORT = settings.admin_port(9100)

log = structlog.get_logger()


async def serve(environment: Environment) -> int:
    """Builds the collector from its settings and runs it to its end; returns the exit code."""
    configure_logging(environment)
    registry = CollectorRegistry()
    metrics = CollectorMetrics(registry)
    settings.REDIS_CLUSTER.read(environment)
    redis_url = settings.REDIS_URL.read(environment)
    redis = connect_redis(redis_url)
    salt_url = settings.SALT_REDIS_URL.read(environment) or redis_url
    salt_redis = connect_redis(salt_url, settings.SALT_REDIS_URL.name)
    store = SaltStore(salt_redis, settings.CALENDAR_TIMEZONE.read(environment))
    disposal = SaltDisposal(
        salt_redis, store, lambda host, port: connect_replica(salt_url, host, port)
    )
    salt = MonthlySalt(store)
    appender = Appender(
        redis,
        settings.STREAM_SHARDS.read(environment),
        metrics,
        Durability(settings.APPEND_DURABILITY.read(environment)),
    )
    addresses = AddressCheck(metrics)
    sessions = Sessions(
        SitePolicy(settings.SITES.read(environment)),
        CrawlerFilter(),
        TokenVerifier(
            settings.JWT_KEY.read(environment),
            settings.JWT_ALGORITHMS.read(environment),
            settings.JWT_AUDIENCE.read(environment),
            settings.JWT_USER_CLAIM.read(environment),
            settings.JWT_ROLE_CLAIM.read(environment),
        ),
        TrustedProxies(
            settings.TRUSTED_PROXIES.read(environment),
            settings.CLIENT_ADDRESS_HEADER.read(environment),
        ),
        salt,
        appender,
        metrics,
        addresses,
    )
    server = Server(sessions, metrics)
    host, port = settings.HOST.read(environment), settings.PORT.read(environment)
    stopping = Stopping()
    stopping.install()

    def failed_checks() -> dict[str, str | None]:
        return {
            "listening": None if server.is_listening else "no requests are accepted",
            "salt": None if salt.is_current() else "no salt of the current month in memory",
            "redis": None if appender.failing_since is None else "the last write failed",
            "draining": "asked to stop" if stopping.asked else None,
        }

    admin = AdminListener(
        settings.ADMIN_HOST.read(environment),
        ADMIN_PORT.read(environment),
        registry,
        failed_checks,
        addresses.warnings,
    )
    clean = True
    writing = asyncio.create_task(appender.run())
    following = [
        asyncio.create_task(salt.keep_fresh(stopping)),
        asyncio.create_task(LateDisposal(store, disposal).run(stopping)),
    ]
    try:
        await admin.start()
        await server.start(host, port)
        log.info("listening", address=f"{host}:{port}")
        await stopping.wait()
        log.info("stopping: no new requests, answering what was accepted")
        await server.stop()
        clean = appender.idle
    finally:
        stopping.set()
        await asyncio.gather(*following)  # not cancelled: that could cut a command in two
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await admin.close()
        await redis.aclose()
        await salt_redis.aclose()
    if not clean:
        log.warning("stopped with requests unanswered: their front-ends will send them again")
        return 1
    log.info("stopped")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m collector",
        description="Counts sessions: answers front-ends' beacons and buffers them in Redis. "
        "Every setting comes from the environment (see README.md).",
    )
    parser.parse_args()
    return run_command(serve(os.environ))


if __name__ == "__main__":
    sys.exit(main())
