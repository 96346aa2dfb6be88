"""`python -m flusher status`: how far behind the flushers are, and what needs a person."""

import asyncio
import json
import time
from dataclasses import asdict, dataclass
from datetime import datetime
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
    """One shard: entries, the sessions and upgrades in them, and of the entries those that a
    flusher has. Ages are in seconds, None where there is nothing to have one.
    """

    shard: int
    entries: int
    records: int
    pending: int
    oldest_seconds: float | None
    dead_letters: int


@dataclass(frozen=True, slots=True)
class BufferStatus:
    """The streams' room. `seconds_left` at the rate of the last second; None: it does not grow."""

    used_bytes: int
    most_bytes: int
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that `status` shows. `shards` are those whose server answers.

    What only a server that does not answer could tell is None: all but `last_session` and
    `upgrades_waiting` is Redis's. `away` has a sentence for each such server.
    """

    shards: list[ShardStatus] | None
    shards_away: list[int] | None
    last_append: str | None
    last_session: str | None
    dead_letters: int | None
    upgrades_waiting: int | None
    buffer: BufferStatus | None
    away: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Streams:
    """What Redis tells, if it does."""

    shards: list[ShardStatus] | None = None
    shards_away: list[int] | None = None
    last_append: str | None = None
    dead_letters: int | None = None
    buffer: BufferStatus | None = None


@dataclass(frozen=True, slots=True)
class _Rows:
    """What PostgreSQL tells, if it does."""

    upgrades_waiting: int | None = None
    last_session: str | None = None


async def read_status(reader: StreamReader, database: Database) -> Status:
    """Asks Redis and PostgreSQL, each whatever the other says.

    Raises:
        Misconfigured: the database is not migrated.
    """
    away: dict[str, str] = {}
    streams, rows = _Streams(), _Rows()
    try:
        streams = await _ask_redis(reader)
    except Retry as error:
        away["redis"] = str(error)
    try:
        rows = await _ask_postgres(database)
    except Retry as error:
        away["postgres"] = str(error)
    return Status(
        shards=streams.shards,
        shards_away=streams.shards_away,
        last_append=streams.last_append,
        last_session=rows.last_session,
        dead_letters=streams.dead_letters,
        upgrades_waiting=rows.upgrades_waiting,
        buffer=streams.buffer,
        away=away,
    )


async def _ask_redis(reader: StreamReader) -> _Streams:
    await reader.find_shards()
    servers, shards = reader.servers, reader.shards
    before = await read_buffer(servers, time.monotonic())
    await asyncio.sleep(_RATE_SECONDS)
    after = await read_buffer(servers, time.monotonic())
    lags = await measure_lag(servers, shards)
    dead = await count_dead_letters(servers, shards)
    newest = max((lag.newest_ms for lag in lags if lag.newest_ms is not None), default=None)
    return _Streams(
        shards=[
            ShardStatus(
                lag.shard,
                lag.entries,
                lag.records,
                lag.pending,
                lag.oldest_seconds,
                dead.get(lag.shard, 0),
            )
            for lag in lags
        ],
        shards_away=sorted(set(shards) - {lag.shard for lag in lags}),
        last_append=None if newest is None else _text(newest / 1000),
        dead_letters=sum(dead.values()),
        buffer=BufferStatus(after.used_bytes, after.most_bytes, after.seconds_left(before)),
    )


async def _ask_postgres(database: Database) -> _Rows:
    async with database.connection() as connection:
        waiting = await connection.fetchval(statement("count_waiting_upgrades"))
        last_session = await connection.fetchval(statement("last_session"))
    return _Rows(waiting, None if last_session is None else last_session.isoformat())


def as_json(status: Status) -> str:
    return json.dumps(asdict(status), indent=2)


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")
