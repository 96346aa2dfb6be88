"""`python -m flusher status`: how far behind the flushers are, and what needs an operator."""

import asyncio
import json
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from contract.errors import Retry
from flusher.postgres.database import Database
from flusher.postgres.statements import statement
from flusher.stream.lag import count_dead_letters, measure_lag
from flusher.stream.read import StreamReader
from runtime.buffer import read_buffer

_RATE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard: its entries, the records in them, and the entries that are pending. The age of its
    oldest entry is in seconds; None: it has no entry. `last_write`: when the collectors wrote the
    last one, also if it is flushed; None: never.
    """

    shard: int
    entries: int
    records: int
    pending: int
    oldest_seconds: float | None
    last_write: str | None
    dead_letters: int


@dataclass(frozen=True, slots=True)
class BufferStatus:
    """Redis's memory. `seconds_left`: until it is full, at the rate of the last second; None: it
    does not grow.
    """

    used_bytes: int
    most_bytes: int
    seconds_left: float | None


@dataclass(slots=True)
class Status:
    """Everything that `status` shows. `shards` are those whose server answers.

    If a server does not answer, its values are None, and `away` has a sentence for it. PostgreSQL's
    are `last_session` and `upgrades_waiting`; the others are Redis's.
    """

    shards: list[ShardStatus] | None = None
    shards_away: list[int] | None = None
    last_append: str | None = None
    last_session: str | None = None
    dead_letters: int | None = None
    upgrades_waiting: int | None = None
    buffer: BufferStatus | None = None
    away: dict[str, str] = field(default_factory=dict)


async def read_status(reader: StreamReader, database: Database) -> Status:
    """Asks Redis and PostgreSQL, each even if the other does not answer.

    Raises:
        Misconfigured: the database is not migrated.
    """
    status = Status()
    for server, ask in (
        ("redis", partial(_ask_redis, reader)),
        ("postgres", partial(_ask_postgres, database)),
    ):
        try:
            await ask(status)
        except Retry as error:
            status.away[server] = str(error)
    return status


async def _ask_redis(reader: StreamReader, status: Status) -> None:
    await reader.find_shards()
    servers, shards = reader.servers, reader.shards
    before = await read_buffer(servers, time.monotonic())
    await asyncio.sleep(_RATE_SECONDS)
    after = await read_buffer(servers, time.monotonic())
    lags = await measure_lag(servers, shards)
    dead = await count_dead_letters(servers, shards)
    waiting = [lag.newest_ms for lag in lags if lag.entries and lag.newest_ms is not None]
    status.shards = [
        ShardStatus(
            lag.shard,
            lag.entries,
            lag.records,
            lag.pending,
            lag.oldest_seconds,
            None if lag.newest_ms is None else _moment(lag.newest_ms, "seconds"),
            dead.get(lag.shard, 0),
        )
        for lag in lags
    ]
    status.shards_away = sorted(set(shards) - {lag.shard for lag in lags})
    status.last_append = _moment(max(waiting)) if waiting else None
    status.dead_letters = sum(dead.values())
    status.buffer = BufferStatus(after.used_bytes, after.most_bytes, after.seconds_left(before))


def _moment(milliseconds: int, timespec: str = "milliseconds") -> str:
    return datetime.fromtimestamp(milliseconds / 1000).astimezone().isoformat(timespec=timespec)


async def _ask_postgres(database: Database, status: Status) -> None:
    async with database.connection() as connection:
        waiting = await connection.fetchval(statement("count_waiting_upgrades"))
        # Reads only the newest month's partition.
        last_session = await connection.fetchval(
            "SELECT max(created_at) FROM sessions WHERE month = (SELECT max(month) FROM sessions)"
        )
    status.upgrades_waiting = waiting
    if last_session is not None:
        status.last_session = last_session.isoformat()


def as_json(status: Status) -> str:
    return json.dumps(asdict(status), indent=2)
