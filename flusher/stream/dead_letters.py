"""The dead letters in Redis: the worker makes them, `python -m flusher dead` shows them, and the
view `data_quality` says where they are missing.

The name of a dead letter is its shard and its id in Redis: `3:1795359513326-0`.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog

from contract import keys
from contract.calendar import Month, from_us, month_at, to_us
from contract.errors import DeadLetter, Misconfigured
from contract.flusher_metrics import FlusherMetrics
from contract.record import FIELD, SaltMade, SessionStarted, decode
from flusher.rows.batch import Undecodable
from flusher.stream.shards import ask_one, find_shards, script
from runtime.shards import Shards

# For each shard. More of them come from a fault that lasts, and the newest ones show it as well.
DEAD_LETTERS_KEPT = 10_000
# With no more digits than Redis can read.
_NAME = re.compile(r"(?P<shard>\d{1,4}):(?P<id>\d{1,19}-\d{1,19})", re.ASCII)
_PAGE = 500
# Not the name of any host.
UNKNOWN_SITE = "(unknown)"

log = structlog.get_logger()


async def set_aside(servers: Shards, metrics: FlusherMetrics, undecodable: Undecodable) -> None:
    """Makes an entry that can never become a row a dead letter: moves it in one step, counts and
    logs it. Does nothing if another flusher has already acknowledged or moved it.

    Raises:
        Retry: Redis does not answer, or is full.
    """
    (shard, id_, _), why = undecodable.entry, undecodable.why
    arguments = (keys.GROUP, id_, FIELD, why.reason, str(why), DEAD_LETTERS_KEPT)
    command = script("dead_letter_entry.lua", shard, [keys.dead_letters(shard)], *arguments)
    found, dropped = await ask_one(servers, shard, command, "setting a dead letter aside")
    if not found:
        return
    if dropped:
        metrics.dead_dropped.inc(dropped)
        log.error(
            "the oldest dead letters were dropped: there are too many",
            count=dropped,
            to_do="`python -m flusher dead list`; fix the cause, replay or drop them",
        )
    metrics.dead.labels(why.reason).inc()
    log.error(
        "an entry was set aside as a dead letter",
        shard=shard,
        entry=id_.decode(),
        reason=why.reason,
        detail=str(why),
        to_do="`python -m flusher dead list`; replay it once the cause is fixed",
    )


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter. `first_seen` is when its entry was first appended, as ISO 8601."""

    shard: int
    id: str
    reason: str
    detail: str
    entry: str
    attempts: int
    first_seen: str
    record: bytes

    @property
    def name(self) -> str:
        return f"{self.shard}:{self.id}"


class DeadLetters:
    """The dead letters of all shards.

    Its methods raise Retry if Redis does not answer, and Misconfigured for an unknown name.
    """

    def __init__(self, shards: Shards) -> None:
        self._servers = shards

    async def all(self) -> AsyncIterator[Letter]:
        """All dead letters, by shard, the oldest first."""
        for shard in await find_shards(self._servers, ()):
            start = "-"
            while letters := await self._range(shard, start, "+", _PAGE):
                for letter in letters:
                    yield letter
                start = f"({letters[-1].id}"

    async def places(self, zone: ZoneInfo, repeated_within_us: int) -> Counter[tuple[Month, str]]:
        """The number of dead letters for each month and site.

        A session may be sent again up to `repeated_within_us` after a month's end. So a dead letter
        from that time may also change the month before, which is then present with the number 0. A
        dead letter that can't be decoded counts for the time when it was first appended, and for
        `UNKNOWN_SITE`.
        """
        found: Counter[tuple[Month, str]] = Counter()
        async for letter in self.all():
            try:
                event = decode(letter.record)
            except DeadLetter:
                at_us, site = to_us(datetime.fromisoformat(letter.first_seen)), UNKNOWN_SITE
                month = month_at(at_us, zone)
            else:
                month, at_us = event.month, event.at_us
                site = UNKNOWN_SITE if isinstance(event, SaltMade) else event.site
            found[month, site] += 1
            if at_us < month.starts_us(zone) + repeated_within_us:
                found[month.plus(-1), site] += 0
        return found

    async def get(self, name: str) -> Letter:
        shard, id_ = _parse(name)
        found = await self._range(shard, id_, id_, 1)
        if not found:
            raise _unknown(name)
        return found[0]

    async def replay(self, name: str) -> None:
        shard, id_ = _parse(name)
        dead_letters = [keys.dead_letters(shard)]
        command = script("replay_dead_letter.lua", shard, dead_letters, id_, FIELD)
        if not await ask_one(self._servers, shard, command, "replaying a dead letter"):
            raise _unknown(name)

    async def drop(self, name: str) -> None:
        shard, id_ = _parse(name)
        command = ("XDEL", keys.dead_letters(shard), id_)
        if not await ask_one(self._servers, shard, command, "dropping a dead letter"):
            raise _unknown(name)

    async def _range(self, shard: int, start: str, end: str, count: int) -> list[Letter]:
        command = ("XRANGE", keys.dead_letters(shard), start, end, "COUNT", count)
        found = await ask_one(self._servers, shard, command, "reading dead letters")
        return [
            _letter(shard, id_, dict(zip(fields[::2], fields[1::2], strict=True)))
            for id_, fields in found
        ]


def as_table(letters: Sequence[Letter]) -> str:
    if not letters:
        return "no dead letters"
    lines = [f"{'ID':<24} {'reason':<20} {'attempts':>8}  first seen"]
    lines += [
        f"{letter.name:<24} {letter.reason:<20} {letter.attempts:>8}  {letter.first_seen}"
        for letter in letters
    ]
    return "\n".join(lines)


def as_text(letter: Letter) -> str:
    return "\n".join(
        [
            f"ID:         {letter.name}",
            f"reason:     {letter.reason}",
            f"detail:     {letter.detail}",
            f"shard:      {letter.shard}",
            f"entry:      {letter.entry}",
            f"attempts:   {letter.attempts}",
            f"first seen: {letter.first_seen}",
            f"record:     {len(letter.record)} bytes, {letter.record.hex() or 'empty'}",
            f"event:      {_describe(letter.record)}",
        ]
    )


def _letter(shard: int, id_: bytes, fields: dict[bytes, bytes]) -> Letter:
    def text(name: bytes) -> str:
        return fields.get(name, b"").decode("utf-8", "replace")

    first_seen = datetime.fromtimestamp(int(text(b"first_seen") or 0) / 1000, UTC)
    return Letter(
        shard=shard,
        id=id_.decode(),
        reason=text(b"reason"),
        detail=text(b"detail"),
        entry=text(b"entry"),
        attempts=int(text(b"attempts") or 0),
        first_seen=first_seen.isoformat(timespec="milliseconds"),
        record=fields.get(FIELD, b""),
    )


def _describe(record: bytes) -> str:
    try:
        event = decode(record)
    except DeadLetter as error:
        return f"none: {error}"
    at = from_us(event.at_us).isoformat()
    if isinstance(event, SaltMade):
        return f"a salt of {event.month} was made ({event.outcome}) at {at}"
    if isinstance(event, SessionStarted):
        role = event.role or "a visitor"
        return f"session {UUID(bytes=event.id)} of {event.site}, {event.month}, {role}, at {at}"
    of = UUID(bytes=event.session_id) if event.session_id else "current"
    return f"upgrade of {of} of {event.site}, {event.month}, to {event.role}, at {at}"


def _parse(name: str) -> tuple[int, str]:
    match = _NAME.fullmatch(name)
    if match is None or int(match["shard"]) >= keys.MOST_SHARDS:
        raise _unknown(name)
    return int(match["shard"]), match["id"]


def _unknown(name: str) -> Misconfigured:
    return Misconfigured("ID", f"there is no dead letter {name!r}", "3:1795359513326-0")
