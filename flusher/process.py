"""The worker's process: what it is made of, and how it starts and ends."""

import asyncio
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from contract import settings
from contract.metrics import FlusherMetrics
from contract.setting import Environment
from flusher.measuring import Measuring
from flusher.postgres.database import Database
from flusher.postgres.match import REPEATED_WITHIN_US
from flusher.postgres.months import MonthKeeper
from flusher.postgres.promises import examine_postgres
from flusher.postgres.write import SessionWriter
from flusher.stream.dead_letters import DeadLetters
from flusher.stream.lag import oldest_entry_seconds
from flusher.stream.read import StreamReader
from flusher.worker import Worker
from flusher.worker_settings import WorkerSettings
from runtime.admin import AdminListener
from runtime.clock import Clock
from runtime.logs import log_start
from runtime.redis_promises import redis_examinations
from runtime.registry import make_registry
from runtime.server_promises import Examine, watch_promises
from runtime.server_watch import ServerWatch
from runtime.service_manager import ServiceManager
from runtime.shards import connect_shards
from runtime.stopping import Stopping

ADMIN_PORT = settings.admin_port(9101)
SETTINGS = (
    settings.REDIS_URL,
    settings.REDIS_CLUSTER,
    settings.DATABASE_URL,
    settings.ADMIN_HOST,
    ADMIN_PORT,
    settings.CALENDAR_TIMEZONE,
    settings.STREAM_SHARDS,
    settings.FLUSH_MAX_ROWS,
    settings.FLUSH_MAX_SECONDS,
    settings.FLUSH_CLAIM_SECONDS,
    settings.SESSIONS_KEPT_MONTHS,
    settings.ENDED_MONTHS_KEEP,
    settings.LOG_LEVEL,
    settings.LOG_FORMAT,
)
# Ready means that a flush, or a query that found nothing to flush, succeeded this recently.
_READY_SECONDS = 30.0
# More statements than a turn of a worker has, each with the worker's patience.
_STATEMENTS_A_TURN = 40
# The longest statement of those that count a month.
_COUNTING_SECONDS = 600.0

log = structlog.get_logger()


async def work(environment: Environment, clock: Clock) -> int:
    """Runs a flusher until it is asked to stop; returns the exit code."""
    registry = make_registry()
    metrics = FlusherMetrics(registry)
    worker_settings = _read_settings(environment)
    # A flush ends, one way or the other, well before another flusher takes its entries over.
    patience_seconds = worker_settings.claim_seconds / 2
    stopping = Stopping()
    stopping.install()
    async with (
        connect_shards(environment) as shards,
        _connect_databases(environment, patience_seconds) as databases,
        ServiceManager(environment) as service,
    ):
        log_start("flusher", SETTINGS, environment)
        consumer = _name_consumer()
        reader, other_reader = [
            StreamReader(shards, name, worker_settings.claim_seconds)
            for name in (consumer, f"{consumer}-helper")
        ]
        worker = _make_worker(reader, databases.worker, metrics, worker_settings)
        # While a batch is matched and committed, the rows of another are copied.
        helper = _make_worker(other_reader, databases.helper, metrics, worker_settings, worker)
        watches = _make_watches(reader, databases, metrics, worker_settings)
        examinations: list[Examine] = [
            *redis_examinations(shards, clock),
            partial(
                examine_postgres,
                settings.DATABASE_URL.read(environment),
                clock,
                worker_settings.zone,
            ),
        ]
        admin = _make_admin(environment, registry, worker, watches, stopping)
        keeper = _make_month_keeper(environment, reader, databases, worker_settings)
        watching = [
            asyncio.create_task(watch_promises(examinations, stopping)),
            *(asyncio.create_task(watch.run(stopping)) for watch in watches.values()),
        ]
        counting = asyncio.create_task(keeper.run(stopping, metrics))
        try:
            await admin.start()
            log.info("flushing", consumer=consumer)
            service.started()
            longest_turn_seconds = _STATEMENTS_A_TURN * patience_seconds
            ended = await asyncio.gather(
                worker.run(stopping, service.watch(longest_turn_seconds)),
                helper.run(stopping, service.watch(longest_turn_seconds)),
            )
        finally:
            stopping.set()
            await asyncio.gather(*watching)
            counting.cancel()
            with suppress(asyncio.CancelledError):
                await counting
            await admin.close()
    if not all(ended):
        log.warning("stopped with entries in hand: another flusher takes them over")
        return 1
    log.info("stopped")
    return 0


def _read_settings(environment: Environment) -> WorkerSettings:
    return WorkerSettings(
        settings.CALENDAR_TIMEZONE.read(environment),
        settings.FLUSH_MAX_ROWS.read(environment),
        settings.FLUSH_MAX_SECONDS.read(environment),
        settings.FLUSH_CLAIM_SECONDS.read(environment),
    )


def _name_consumer() -> str:
    """Unique among the living; who is gone is taken off the group by whoever stops next."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class _Databases:
    """A connection for each that must not wait for another."""

    worker: Database
    helper: Database
    counting: Database
    watched: Database


@asynccontextmanager
async def _connect_databases(
    environment: Environment, patience_seconds: float
) -> AsyncIterator[_Databases]:
    """To the end of the block; each connects when it is first asked."""
    dsn = settings.DATABASE_URL.read(environment)
    async with AsyncExitStack() as stack:
        worker, helper, counting, watched = [
            await stack.enter_async_context(Database(dsn, seconds))
            for seconds in (
                patience_seconds,
                patience_seconds,
                _COUNTING_SECONDS,
                patience_seconds,
            )
        ]
        yield _Databases(worker, helper, counting, watched)


def _make_worker(
    reader: StreamReader,
    database: Database,
    metrics: FlusherMetrics,
    worker_settings: WorkerSettings,
    helps: Worker | None = None,
) -> Worker:
    writer = SessionWriter(database, worker_settings.zone)
    return Worker(reader, writer, metrics, worker_settings, helps)


def _make_watches(
    reader: StreamReader,
    databases: _Databases,
    metrics: FlusherMetrics,
    worker_settings: WorkerSettings,
) -> Mapping[str, ServerWatch]:
    """One for each server, by the name of its check."""
    count_waiting = SessionWriter(databases.watched, worker_settings.zone).count_waiting

    async def ask_postgres() -> None:
        metrics.upgrades_waiting.set(await count_waiting())

    return {
        "redis": ServerWatch("Redis", Measuring(reader, metrics).measure),
        "postgres": ServerWatch("PostgreSQL", ask_postgres),
    }


def _make_admin(
    environment: Environment,
    registry: CollectorRegistry,
    worker: Worker,
    watches: Mapping[str, ServerWatch],
    stopping: Stopping,
) -> AdminListener:
    def failed_checks() -> dict[str, str | None]:
        last = worker.last_success
        is_recent = last is not None and time.monotonic() - last <= _READY_SECONDS
        return {
            "flush": None if is_recent else "no flush has succeeded recently",
            **{server: watch.wrong for server, watch in watches.items()},
            "draining": "asked to stop" if stopping.asked else None,
        }

    host, port = settings.ADMIN_HOST.read(environment), ADMIN_PORT.read(environment)
    return AdminListener(host, port, registry, failed_checks)


def _make_month_keeper(
    environment: Environment,
    reader: StreamReader,
    databases: _Databases,
    worker_settings: WorkerSettings,
) -> MonthKeeper:
    return MonthKeeper(
        databases.counting,
        partial(_ask_oldest_entry, reader),
        settings.SESSIONS_KEPT_MONTHS.read(environment),
        settings.ENDED_MONTHS_KEEP.read(environment),
        partial(DeadLetters(reader.servers).places, worker_settings.zone, REPEATED_WITHIN_US),
    )


async def _ask_oldest_entry(reader: StreamReader) -> float:
    return await oldest_entry_seconds(reader.servers, reader.shards)
