"""`python -m flusher`: the worker, and the commands of whoever looks after the database."""

import argparse
import asyncio
import os
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
from prometheus_client import CollectorRegistry

from contract import settings
from contract.metrics import FlusherMetrics
from contract.settings import Environment
from flusher.database import Database
from flusher.dead_letters import DeadLetters, as_table
from flusher.dead_letters import as_text as as_text_of_letter
from flusher.migrate import migrate
from flusher.read import StreamReader
from flusher.status import as_json, as_text, read_status
from flusher.worker import Worker
from flusher.write import SessionWriter
from process.admin import AdminListener
from process.command import run_command
from process.logs import configure_logging
from process.redis_client import connect_redis
from process.stopping import Stopping

ADMIN_PORT = settings.admin_port(9101)
# Ready means that a flush, or a look that found nothing to flush, succeeded this recently.
READY_SECONDS = 30.0

log = structlog.get_logger()


async def work(environment: Environment) -> int:
    """Runs a flusher until it is asked to stop; returns the exit code."""
    configure_logging(environment)
    registry = CollectorRegistry()
    metrics = FlusherMetrics(registry)
    settings.REDIS_CLUSTER.read(environment)
    redis = connect_redis(settings.REDIS_URL.read(environment))
    zone = settings.CALENDAR_TIMEZONE.read(environment)
    claim_seconds = settings.FLUSH_CLAIM_SECONDS.read(environment)
    # Unique among the living; who is gone is taken off the group by whoever stops next.
    consumer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    shards = settings.STREAM_SHARDS.read(environment)
    stopping = Stopping()
    stopping.install()
    # A flush ends, one way or the other, well before another flusher takes its entries over.
    patience_seconds = claim_seconds / 2
    dsn = settings.DATABASE_URL.read(environment)
    max_rows = settings.FLUSH_MAX_ROWS.read(environment)
    max_seconds = settings.FLUSH_MAX_SECONDS.read(environment)

    def make_worker(name: str, database: Database, helps: Worker | None = None) -> Worker:
        return Worker(
            StreamReader(redis, shards, name, claim_seconds),
            SessionWriter(database, zone),
            metrics,
            zone,
            max_rows,
            max_seconds,
            claim_seconds,
            helps,
        )

    async with Database(dsn, patience_seconds) as one, Database(dsn, patience_seconds) as other:
        worker = make_worker(consumer, one)
        # While a batch is matched and committed, the rows of another are copied.
        helper = make_worker(f"{consumer}-helper", other, worker)

        def failed_checks() -> dict[str, str | None]:
            since = worker.last_success
            stale = since is None or time.monotonic() - since > READY_SECONDS
            return {
                "flush": "no flush has succeeded recently" if stale else None,
                "draining": "asked to stop" if stopping.asked else None,
            }

        admin = AdminListener(
            settings.ADMIN_HOST.read(environment),
            ADMIN_PORT.read(environment),
            registry,
            failed_checks,
        )
        try:
            await admin.start()
            log.info("flushing", consumer=consumer)
            ended = await asyncio.gather(worker.run(stopping), helper.run(stopping))
        finally:
            await admin.close()
            await redis.aclose()
    if not all(ended):
        log.warning("stopped with entries in hand: another flusher takes them over")
        return 1
    log.info("stopped")
    return 0


async def migrate_database(environment: Environment) -> int:
    """`migrate`."""
    zone = settings.CALENDAR_TIMEZONE.read(environment)
    async with (
        Database(settings.DATABASE_URL.read(environment)) as database,
        database.connection() as connection,
    ):
        applied = await migrate(connection, zone)
    print("\n".join(f"applied {name}" for name in applied) or "the database is up to date")
    return 0


async def show_status(environment: Environment, *, json: bool) -> int:
    """`status`."""
    shards = settings.STREAM_SHARDS.read(environment)
    redis = connect_redis(settings.REDIS_URL.read(environment))
    reader = StreamReader(redis, shards, consumer="status", claim_seconds=60)
    try:
        async with Database(settings.DATABASE_URL.read(environment)) as database:
            status = await read_status(redis, reader, database, shards)
    finally:
        await redis.aclose()
    print(as_json(status) if json else as_text(status))
    return 0


async def show_dead_letters(environment: Environment) -> int:
    """`dead list`."""
    async with _dead_letters(environment) as dead_letters:
        print(as_table([letter async for letter in dead_letters.all()]))
    return 0


async def show_dead_letter(environment: Environment, name: str) -> int:
    """`dead show`."""
    async with _dead_letters(environment) as dead_letters:
        print(as_text_of_letter(await dead_letters.get(name)))
    return 0


async def replay_dead_letters(environment: Environment, names: Sequence[str]) -> int:
    """`dead replay`: those named, or all."""
    async with _dead_letters(environment) as dead_letters:
        # All are known before the first is replayed: one that fails again comes back.
        for name in names or [letter.name async for letter in dead_letters.all()]:
            await dead_letters.replay(name)
            print(f"replayed {name}")
    return 0


async def drop_dead_letters(environment: Environment, names: Sequence[str]) -> int:
    """`dead drop`."""
    async with _dead_letters(environment) as dead_letters:
        for name in names:
            await dead_letters.drop(name)
            print(f"dropped {name}")
    return 0


@asynccontextmanager
async def _dead_letters(environment: Environment) -> AsyncIterator[DeadLetters]:
    redis = connect_redis(settings.REDIS_URL.read(environment))
    try:
        yield DeadLetters(redis, settings.STREAM_SHARDS.read(environment))
    finally:
        await redis.aclose()


def _add_dead_letter_commands(dead: argparse.ArgumentParser) -> None:
    verbs = dead.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs.add_parser("list", help="one line each")
    show = verbs.add_parser("show", help="all that is known of one")
    show.add_argument("id", metavar="ID", help="as `list` shows it")
    replay = verbs.add_parser(
        "replay", help="back into the streams, and through the same deduplication as any entry"
    )
    replay.add_argument("ids", metavar="ID", nargs="*", help="as `list` shows them; none: all")
    drop = verbs.add_parser("drop", help="delete for good")
    drop.add_argument("ids", metavar="ID", nargs="+", help="as `list` shows them")


def _run_dead_letter_command(arguments: argparse.Namespace) -> int:
    match arguments.verb:
        case "list":
            return run_command(show_dead_letters(os.environ))
        case "show":
            return run_command(show_dead_letter(os.environ, arguments.id))
        case "replay":
            return run_command(replay_dead_letters(os.environ, arguments.ids))
        case _:
            return run_command(drop_dead_letters(os.environ, arguments.ids))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m flusher",
        description="Copies sessions from Redis to PostgreSQL. Without a command: the worker. "
        "Every setting comes from the environment (see README.md).",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser(
        "migrate", help="create or upgrade the database; safe to repeat and to race"
    )
    status = commands.add_parser("status", help="how far behind the flushers are")
    status.add_argument("--json", action="store_true", help="for scripts")
    _add_dead_letter_commands(
        commands.add_parser("dead", help="entries that could not become rows")
    )
    arguments = parser.parse_args()
    match arguments.command:
        case "migrate":
            return run_command(migrate_database(os.environ))
        case "dead":
            return _run_dead_letter_command(arguments)
        case "status":
            return run_command(show_status(os.environ, json=arguments.json))
        case _:
            return run_command(work(os.environ))


if __name__ == "__main__":
    sys.exit(main())
