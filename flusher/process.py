"""The worker's process: builds its parts, starts them and stops them."""

import asyncio
import os
import socket
import time
import uuid
from contextlib import suppress
from functools import partial

import structlog

from contract import settings
from contract.flusher_metrics import FlusherMetrics
from contract.setting import Environment
from flusher.housekeeping import Housekeeping
from flusher.postgres.database import Database
from flusher.postgres.match import REPEATED_WITHIN_US
from flusher.postgres.months import MonthKeeper
from flusher.postgres.server_checks import examine_postgres
from flusher.postgres.write import SessionWriter
from flusher.stream.dead_letters import DeadLetters
from flusher.stream.keeper import StreamKeeper
from flusher.stream.lag import oldest_entry_seconds
from flusher.stream.read import StreamReader
from flusher.worker import Worker
from flusher.worker_settings import WorkerSettings
from runtime.admin import make_registry, serve_admin
from runtime.clock import Clock
from runtime.logs import log_start
from runtime.redis_checks import redis_examinations
from runtime.server_checks import Examine, watch_servers
from runtime.server_watch import ServerWatch
from runtime.service_manager import ServiceManager
from runtime.shards import Shards, connect_shards
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
# Ready: a flush, or a query that found nothing to flush, has succeeded within this time.
_READY_SECONDS = 30.0
# A turn of a worker has fewer statements. Each may take `WorkerSettings.patience_seconds`.
_STATEMENTS_A_TURN = 40
# How long a statement that counts a month may take.
_COUNTING_SECONDS = 600.0

log = structlog.get_logger()


async def work(environment: Environment, clock: Clock) -> int:
    """Runs a flusher until it is asked to stop; returns the exit code."""
    registry = make_registry()
    async with connect_shards(environment) as shards, ServiceManager(environment) as service:
        flusher = Flusher(environment, clock, shards, FlusherMetrics(registry))
        log_start("flusher", SETTINGS, environment)
        async with serve_admin(environment, ADMIN_PORT, registry, flusher.checks):
            ended = await flusher.run(service)
    if not ended:
        log.warning("stopped with entries that are not stored: another flusher takes them over")
        return 1
    log.info("stopped")
    return 0


class Flusher:
    """Everything that runs in the process, except the admin pages."""

    def __init__(
        self, environment: Environment, clock: Clock, shards: Shards, metrics: FlusherMetrics
    ) -> None:
        """
        Raises:
            Misconfigured: a setting is wrong.
        """
        self._metrics = metrics
        self._stopping = Stopping()
        worker_settings = _read_settings(environment)
        zone, patience_seconds = worker_settings.zone, worker_settings.patience_seconds
        self._longest_turn_seconds = _STATEMENTS_A_TURN * patience_seconds
        dsn = settings.DATABASE_URL.read(environment)
        # Separate connections for what must not wait for each other.
        self._databases = [
            Database(dsn, seconds)
            for seconds in (patience_seconds, patience_seconds, patience_seconds, _COUNTING_SECONDS)
        ]
        for_worker, for_helper, for_watching, for_counting = self._databases
        # Unique among running flushers. A flusher that stops removes the names of dead ones.
        self._consumer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        reader, other_reader = [
            StreamReader(shards, name, worker_settings.claim_seconds)
            for name in (self._consumer, f"{self._consumer}-helper")
        ]
        writer = SessionWriter(for_worker, zone)
        self._worker = Worker(reader, writer, metrics, worker_settings)
        # One worker copies the rows of a batch while the other matches and commits another batch.
        other_writer = SessionWriter(for_helper, zone)
        self._helper = Worker(other_reader, other_writer, metrics, worker_settings, self._worker)
        self._count_waiting = SessionWriter(for_watching, zone).count_waiting
        streams = StreamKeeper(reader, other_reader, metrics, worker_settings.claim_seconds)
        self._watches = {
            "redis": ServerWatch("Redis", streams.run_once),
            "postgres": ServerWatch("PostgreSQL", self._measure_postgres),
        }
        self._examinations: list[Examine] = [
            *redis_examinations(shards, clock),
            partial(examine_postgres, dsn, clock, zone),
        ]
        months = MonthKeeper(
            for_counting,
            lambda: oldest_entry_seconds(reader.servers, reader.shards),
            partial(DeadLetters(shards).places, zone, REPEATED_WITHIN_US),
            settings.SESSIONS_KEPT_MONTHS.read(environment),
            settings.ENDED_MONTHS_KEEP.read(environment),
        )
        self._housekeeping = Housekeeping(for_counting, months, metrics, worker_settings)

    def checks(self) -> dict[str, str | None]:
        """The checks of `/readyz`: by name, what is wrong or None."""
        last = self._worker.last_success
        is_recent = last is not None and time.monotonic() - last <= _READY_SECONDS
        return {
            "flush": None if is_recent else "no flush has succeeded recently",
            **{server: watch.wrong for server, watch in self._watches.items()},
            "draining": "asked to stop" if self._stopping.asked else None,
        }

    async def run(self, service: ServiceManager) -> bool:
        """Flushes until it is asked to stop; returns whether everything that was read is stored."""
        self._stopping.install()
        watching = [
            asyncio.create_task(watch_servers(self._examinations, self._stopping)),
            *(asyncio.create_task(watch.run(self._stopping)) for watch in self._watches.values()),
        ]
        keeping = asyncio.create_task(self._housekeeping.run(self._stopping))
        try:
            log.info("flushing", consumer=self._consumer)
            service.started()
            ended = await asyncio.gather(
                *(
                    worker.run(self._stopping, service.watch(self._longest_turn_seconds))
                    for worker in (self._worker, self._helper)
                )
            )
        finally:
            self._stopping.set()
            await asyncio.gather(*watching)
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            for database in self._databases:
                await database.close()
        return all(ended)

    async def _measure_postgres(self) -> None:
        self._metrics.upgrades_waiting.set(await self._count_waiting())


def _read_settings(environment: Environment) -> WorkerSettings:
    return WorkerSettings(
        settings.CALENDAR_TIMEZONE.read(environment),
        settings.FLUSH_MAX_ROWS.read(environment),
        settings.FLUSH_MAX_SECONDS.read(environment),
        settings.FLUSH_CLAIM_SECONDS.read(environment),
    )
