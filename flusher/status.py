"""`python -m flusher status`: how far behind the flushers are, and what needs an operator."""

import asyncio
import json
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from contract.errors import NotAdmitted, Retry
from flusher.postgres.database import Database
from flusher.postgres.statements import statement
from flusher.stream.lag import ShardLag, measure_lag
from flusher.stream.shards import find_shards
from runtime.buffer import read_buffer
from runtime.shards import Shards

_RATE_SECONDS: Final = 1.0


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

    shards: list[ShardLag] | None = None
    shards_away: list[int] | None = None
    last_append: datetime | None = None
    last_session: datetime | None = None
    dead_letters: int | None = None
    upgrades_waiting: int | None = None
    buffer: BufferStatus | None = None
    away: dict[str, str] = field(default_factory=dict)


async def read_status(servers: Shards, database: Database) -> Status:
    """Asks Redis and PostgreSQL, each even if the other does not answer.

    Raises:
        Misconfigured: the database is not migrated.
        NotAdmitted: Redis refuses the password or the database of its URL.
    """
    status = Status()
    for server, ask in (
        ("redis", partial(_ask_redis, servers)),
        ("postgres", partial(_ask_postgres, database)),
    ):
        try:
            await ask(status)
        except NotAdmitted:
            raise
        except Retry as error:
            status.away[server] = str(error)
    return status


async def _ask_redis(servers: Shards, status: Status) -> None:
    shards = await find_shards(servers, range(servers.count))
    before = await read_buffer(servers, time.monotonic())
    await asyncio.sleep(_RATE_SECONDS)
    after = await read_buffer(servers, time.monotonic())
    lags = status.shards = await measure_lag(servers, shards)
    status.shards_away = sorted(set(shards) - {lag.shard for lag in lags})
    waiting = (lag.last_write for lag in lags if lag.entries and lag.last_write)
    status.last_append = max(waiting, default=None)
    status.dead_letters = sum(lag.dead_letters for lag in lags)
    status.buffer = BufferStatus(after.used_bytes, after.most_bytes, after.seconds_left(before))


async def _ask_postgres(database: Database, status: Status) -> None:
    async with database.connection() as connection:
        waiting = await connection.fetchval(statement("count_waiting_upgrades"))
        # Reads only the newest month's partition.
        status.last_session = await connection.fetchval(
            "SELECT max(created_at) FROM sessions WHERE month = (SELECT max(month) FROM sessions)"
        )
    status.upgrades_waiting = waiting


def as_json(status: Status) -> str:
    return json.dumps(asdict(status), default=datetime.isoformat, indent=2)
