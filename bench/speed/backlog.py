"""Makes a backlog: events for the streams, and the rows that they must become.

One event in ten is an upgrade by id. A fifth of these follow their start within two thousand
events, mostly in the same batch; the others come two to six batches later. Ids are random, like a
browser's.
"""

import math
import random
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final
from uuid import UUID

import redis

from collector.buffer.entries import PackedEntry, pack_entries
from collector.buffer.pending import PendingRecord
from contract import keys
from contract.calendar import DAY_US, SECOND_US, Month, from_us, month_at
from contract.identity import SignIn
from contract.record import SessionStarted, SessionUpgraded, encode
from contract.settings import STREAM_SHARDS
from runtime.clock import wall_clock

SHARDS: Final = STREAM_SHARDS.read({})

_UPGRADED: Final = 1 / 9  # of the sessions: of the events, one in ten
_SOON: Final = 0.2
_PIPELINED: Final = 2000

Row = tuple[UUID, date, str, UUID, str | None, datetime, datetime | None]


@dataclass(frozen=True, slots=True)
class Backlog:
    """Events, and the rows that they must become."""

    events: list[SessionStarted | SessionUpgraded]
    rows: list[Row]

    @property
    def upgraded(self) -> int:
        return len(self.events) - len(self.rows)


def make_backlog(sessions: int, seed: int, sites: int = 20) -> Backlog:
    """Sessions of the present month, and their upgrades."""
    chance = random.Random(seed)
    month = month_at(wall_clock(), UTC)
    # Far from both ends of the month: near an end, a session is looked up in two months.
    first_us = month.starts_us(UTC) + 14 * DAY_US
    events: list[SessionStarted | SessionUpgraded] = []
    rows: list[Row] = []
    due: dict[int, list[SessionUpgraded]] = {}
    for number in range(sessions):
        site = f"city-{chance.randrange(sites)}.example.org"
        start = _start(chance, month, site, first_us + number)
        events.append(start)
        upgrade = _upgrade(chance, start) if chance.random() < _UPGRADED else None
        rows.append(_row(start, upgrade))
        if upgrade is not None:
            soon = chance.random() < _SOON
            after = chance.randrange(100, 2000) if soon else chance.randrange(20_000, 60_000)
            due.setdefault(min(number + after, sessions - 1), []).append(upgrade)
        events += due.pop(number, ())
    return Backlog(events, rows)


def append_backlog(backlog: Backlog, port: int, records_a_write: int) -> None:
    """Appends it to the streams of the Redis at a port, as a collector does.

    Each of the collector's writes has `records_a_write` records. Those of a shard share an entry.
    """
    entries: list[PackedEntry] = []
    pending = [_pending(event) for event in backlog.events]
    for first in range(0, len(pending), records_a_write):
        entries += pack_entries(pending[first : first + records_a_write], together=True)
    with redis.Redis(port=port) as client:
        connection = client.connection_pool.get_connection()
        for first in range(0, len(entries), _PIPELINED):
            part = entries[first : first + _PIPELINED]
            connection.send_packed_command([entry.commands for entry in part])
            for _ in range(sum(entry.replies for entry in part)):
                connection.read_response()


def _start(chance: random.Random, month: Month, site: str, at_us: int) -> SessionStarted:
    session = UUID(int=chance.getrandbits(128), version=4).bytes
    return SessionStarted(session, month, at_us, site, chance.randbytes(16), None)


def _upgrade(chance: random.Random, start: SessionStarted) -> SessionUpgraded:
    id_, user, *sign_in = (chance.randbytes(16) for _ in range(5))
    at_us = start.at_us + SECOND_US
    return SessionUpgraded(
        id_, start.id, None, start.month, at_us, start.site, user, "user", SignIn(*sign_in)
    )


def _row(start: SessionStarted, upgrade: SessionUpgraded | None) -> Row:
    return (
        UUID(bytes=start.id),
        start.month.first_day,
        start.site,
        UUID(bytes=start.monthly_user_hash if upgrade is None else upgrade.user_hash),
        None if upgrade is None else upgrade.role,
        from_us(start.at_us),
        None if upgrade is None else from_us(upgrade.at_us),
    )


def _pending(event: SessionStarted | SessionUpgraded) -> PendingRecord:
    session = event.id if isinstance(event, SessionStarted) else event.session_id
    shard = keys.shard_of(session or b"", SHARDS)
    return PendingRecord(encode(event), shard, math.inf, lambda _: None)
