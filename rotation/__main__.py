"""`python -m rotation`: the clock, and the commands of whoever looks after the salt."""

import argparse
import os
import sys

import structlog
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from contract import settings
from contract.metrics import RotationMetrics
from contract.settings import Environment
from process.admin import AdminListener
from process.command import run_command
from process.logs import configure_logging
from process.redis_client import connect_redis
from process.salt_store import Outcome, SaltStore
from process.stopping import Stopping
from rotation.status import as_json, as_text, read_status
from rotation.worker import Worker

ADMIN_PORT = settings.admin_port(9102)

log = structlog.get_logger()

_SAID = {
    Outcome.UNCHANGED: "{month} has its salt: nothing to do",
    Outcome.ROTATED: "{month} has begun: its salt is made, the earlier one destroyed",
    Outcome.FIRST: "no salt was recorded: the first is made, for {month}",
    Outcome.LOST: "the salt of {month} was lost: a new one is made. Who came before and comes "
    "again is counted twice this month",
    Outcome.REPLACED: "the salt of {month} is replaced. Who came before and comes again is "
    "counted twice this month",
    Outcome.CLOCK_WENT_BACK: "the server's clock is before {month}, whose salt stays in force: "
    "check that clock",
}


def _connect(environment: Environment) -> Redis:
    url = settings.SALT_REDIS_URL.read(environment) or settings.REDIS_URL.read(environment)
    return connect_redis(url)


async def follow_the_calendar(environment: Environment) -> int:
    """Runs rotation until it is asked to stop; returns the exit code."""
    configure_logging(environment)
    registry = CollectorRegistry()
    metrics = RotationMetrics(registry)
    zone = settings.CALENDAR_TIMEZONE.read(environment)
    redis = _connect(environment)
    worker = Worker(SaltStore(redis, zone), zone, metrics)
    stopping = Stopping()
    stopping.install()

    def failed_checks() -> dict[str, str | None]:
        return {
            "salt": "the salt could not be looked after" if worker.last_outcome is None else None,
            "draining": "asked to stop" if stopping.asked else None,
        }

    admin = AdminListener(
        settings.ADMIN_HOST.read(environment), ADMIN_PORT.read(environment), registry, failed_checks
    )
    try:
        await admin.start()
        await worker.run(stopping)
    finally:
        await admin.close()
        await redis.aclose()
    log.info("stopped")
    return 0


async def rotate(environment: Environment, *, force: bool) -> int:
    """`rotate`."""
    redis = _connect(environment)
    try:
        store = SaltStore(redis, settings.CALENDAR_TIMEZONE.read(environment))
        ensured = await store.ensure(replace=force)
    finally:
        await redis.aclose()
    print(_SAID[ensured.outcome].format(month=ensured.salt.month))
    return 0


async def show_status(environment: Environment, *, json: bool) -> int:
    """`status`."""
    zone = settings.CALENDAR_TIMEZONE.read(environment)
    redis = _connect(environment)
    try:
        status = await read_status(SaltStore(redis, zone), zone)
    finally:
        await redis.aclose()
    print(as_json(status) if json else as_text(status))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rotation",
        description="Makes each month's salt and destroys the one before. Without a command: the "
        "process that follows the calendar. Every setting comes from the environment (see "
        "README.md).",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    rotating = commands.add_parser("rotate", help="one rotation now, if the month has no salt yet")
    rotating.add_argument(
        "--force",
        action="store_true",
        help="replace the salt in mid-month, when it has leaked: from here on, whoever came before "
        "in this month and comes again is counted a second time",
    )
    status = commands.add_parser("status", help="the month, its salt's life, earlier salts")
    status.add_argument("--json", action="store_true", help="for scripts")
    arguments = parser.parse_args()
    match arguments.command:
        case "rotate":
            return run_command(rotate(os.environ, force=arguments.force))
        case "status":
            return run_command(show_status(os.environ, json=arguments.json))
        case _:
            return run_command(follow_the_calendar(os.environ))


if __name__ == "__main__":
    sys.exit(main())
