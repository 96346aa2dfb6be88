"""`python -m rotation`: the process that follows the calendar, and its commands."""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from contract import settings
from contract.metrics import RotationMetrics
from contract.setting import Environment
from rotation.announce import announce
from rotation.status import as_json, as_text
from rotation.worker import Worker
from runtime.admin import AdminListener, make_registry
from runtime.clock import Clock, wall_clock
from runtime.command import add_version, run_command, run_process
from runtime.logs import configure_logging, log_start
from runtime.redis_checks import redis_examinations
from runtime.restart import Restart, RestartTimer
from runtime.server_checks import Examine, watch_servers
from runtime.server_watch import ServerWatch
from runtime.service_manager import ServiceManager
from runtime.shards import connect_shards
from runtime.stopping import Stopping
from salt.client import connect_salt
from salt.disposal import SaltDisposal
from salt.report import describe_outcome
from salt.store import SaltStore
from salt.term import Outcome
from salt.witnesses import ask_witnesses

ADMIN_PORT = settings.admin_port(9102)
SETTINGS = (
    settings.REDIS_URL,
    settings.REDIS_CLUSTER,
    settings.SALT_REDIS_URL,
    settings.ADMIN_HOST,
    ADMIN_PORT,
    settings.CALENDAR_TIMEZONE,
    settings.STREAM_SHARDS,
    settings.LOG_LEVEL,
    settings.LOG_FORMAT,
)

# A disposal waits for rewrites and saves of Redis's files, ten minutes for each.
LONGEST_TURN_SECONDS = 6 * 3600.0

# Late enough for Prometheus to read the metric of the new salt, which the next program does not
# have; within thirty seconds, because the month may be about to end.
RESTART_AFTER_SECONDS = 18.0, 25.0

log = structlog.get_logger()


@asynccontextmanager
async def _connect(
    environment: Environment,
    clock: Clock,
    metrics: RotationMetrics,
    has_made: Callable[[], None] = lambda: None,
) -> AsyncIterator[tuple[Worker, list[Examine]]]:
    """The worker, and the checks of its servers, connected until the end of the block."""
    zone = settings.CALENDAR_TIMEZONE.read(environment)
    async with connect_salt(environment) as server, connect_shards(environment) as shards:
        witnesses = partial(ask_witnesses, clock, shards)
        store = SaltStore(server.redis, zone, witnesses, sets_expiry=True)
        announcing = partial(announce, server.redis, shards)
        checks = redis_examinations(shards, clock, None if server.is_streams else server.redis)
        yield Worker(store, SaltDisposal(server, store), announcing, metrics, has_made), checks


async def follow_the_calendar(environment: Environment, clock: Clock) -> int | Restart:
    """Runs rotation until it is asked to stop (the exit code) or has made a salt (Restart)."""
    registry = make_registry()
    metrics = RotationMetrics(registry)
    stopping = Stopping()
    stopping.install()
    restart_timer = RestartTimer(*RESTART_AFTER_SECONDS)
    async with (
        _connect(environment, clock, metrics, restart_timer.is_over) as (worker, checks),
        ServiceManager(environment) as service,
    ):
        log_start("rotation", SETTINGS, environment)
        restarting = asyncio.create_task(_stop_to_restart(restart_timer, stopping))
        watching = [
            restarting,
            asyncio.create_task(watch_servers(checks, stopping)),
            asyncio.create_task(ServerWatch("the salt's Redis", worker.measure).run(stopping)),
        ]
        admin = AdminListener(
            settings.ADMIN_HOST.read(environment),
            ADMIN_PORT.read(environment),
            registry,
            lambda: worker.checks() | {"draining": "asked to stop" if stopping.asked else None},
        )
        try:
            await admin.start()
            service.started()
            await worker.run(stopping, service.watch(LONGEST_TURN_SECONDS))
        finally:
            stopping.set()
            await asyncio.gather(*watching)
            await admin.close()
        if restarting.result():
            log.info("restarting in place, so that nothing of the new salt stays in memory")
            stopping.leave_signals()
            return Restart()
    log.info("stopped")
    return 0


async def _stop_to_restart(restart_timer: RestartTimer, stopping: Stopping) -> bool:
    is_due = await restart_timer.is_due(stopping)
    stopping.set()
    return is_due


async def rotate(environment: Environment, clock: Clock, *, force: bool) -> int:
    """The command `rotate`. It tries a disposal again that a server has refused before.

    It returns 1 if clocks contradict each other or if anything of an earlier salt may be left.
    """
    configure_logging(environment, "rotation")
    async with _connect(environment, clock, RotationMetrics(CollectorRegistry())) as (worker, _):
        ensured, report = await worker.run_once(replace=force, again=True)
    print(describe_outcome(ensured))
    if report is None or not (report.failed or report.refused):
        return 1 if ensured.outcome is Outcome.CLOCK_WENT_BACK else 0
    print("An earlier salt may be left: `python -m rotation status` shows where, and what to do.")
    return 1


async def show_status(environment: Environment, clock: Clock, *, json: bool) -> int:
    async with _connect(environment, clock, RotationMetrics(CollectorRegistry())) as (worker, _):
        status = await worker.status()
    print(as_json(status) if json else as_text(status))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rotation",
        description="Makes each month's salt and destroys the earlier one. Without a command, it "
        "runs and does so at each month's end. All settings come from the environment (see "
        "docs/settings.md).",
    )
    add_version(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    rotating = commands.add_parser("rotate", help="one rotation now, if the month has no salt yet")
    rotating.add_argument(
        "--force",
        action="store_true",
        help="replace the salt within its month: if it has leaked, or if a later month's salt is "
        "in force because a clock was ahead. People who came before in this month and come again "
        "then count twice",
    )
    status = commands.add_parser(
        "status", help="this month's salt, and whether anything of an earlier one is left"
    )
    status.add_argument("--json", action="store_true", help="for scripts")
    arguments = parser.parse_args()
    match arguments.command:
        case "rotate":
            return run_command(rotate(os.environ, wall_clock, force=arguments.force))
        case "status":
            return run_command(show_status(os.environ, wall_clock, json=arguments.json))
        case _:
            return run_process("rotation", follow_the_calendar, os.environ, wall_clock)


if __name__ == "__main__":
    sys.exit(main())
