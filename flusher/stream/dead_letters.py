"""`python -m flusher dead`: entries that could not become rows, and what to do about them.

A dead letter is named by its shard and the id that Redis gave it: `3:1795359513326-0`.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from redis.exceptions import RedisError

from contract import keys
from contract.calendar import Month, from_us, month_at, to_us
from contract.errors import DeadLetter, Misconfigured
from contract.record import FIELD, SaltMade, SessionStarted, decode
from flusher.stream.shards import ask, find_shards
from runtime.redis_client import retry_for
from runtime.redis_connection import Command
from runtime.shards import Shards

_REPLAY = files("flusher.stream").joinpath("replay_dead_letter.lua").read_text()
_NAME = re.compile(r"(?P<shard>\d{1,4}):(?P<id>\d+-\d+)")
_PAGE = 500
# No host has this name.
UNKNOWN_SITE = "(unknown)"


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. `first_seen` is when its entry was first appended."""

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
    """The dead letters of all shards."""

    def __init__(self, shards: Shards) -> None:
        self._servers = shards

    async def all(self) -> AsyncIterator[Letter]:
        """Every dead letter, by shard, the oldest first.

        Raises:
            Retry: Redis does not answer.
        """
        for shard in await find_shards(self._servers, (), [keys.dead_letters]):
            start = "-"
            while letters := await self._range(shard, start, "+", _PAGE):
                for letter in letters:
                    yield letter
                start = f"({letters[-1].id}"

    async def count(self) -> int:
        """How many there are, of the shards whose server answers.

        Raises:
            Retry: Redis does not answer.
        """
        found = await find_shards(self._servers, (), [keys.dead_letters])
        commands = {shard: [("XLEN", keys.dead_letters(shard))] for shard in found}
        try:
            replies = await self._servers.ask(commands) if commands else {}
        except RedisError as error:
            raise retry_for(error, "counting dead letters") from None
        return sum(count for (count,) in replies.values() if isinstance(count, int))

    async def places(self, zone: ZoneInfo, repeated_within_us: int) -> Counter[tuple[Month, str]]:
        """How many there are of each month and site. The month before is there with 0 where one
        could still change it, since a repeat of that month's sessions may come so much later. What
        can't be decoded is of the time when it was first appended, and of an unknown site.

        Raises:
            Retry: Redis does not answer.
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
        """One dead letter.

        Raises:
            Misconfigured: there is none of this name.
            Retry: Redis does not answer.
        """
        shard, id_ = self._parse(name)
        found = await self._range(shard, id_, id_, 1)
        if not found:
            raise _unknown(name)
        return found[0]

    async def replay(self, name: str) -> None:
        """Puts one back into its stream.

        Raises:
            Misconfigured: there is none of this name.
            Retry: Redis does not answer.
        """
        shard, id_ = self._parse(name)
        names = (keys.stream(shard), keys.dead_letters(shard))
        replayed = await self._ask(
            shard, ("EVAL", _REPLAY, len(names), *names, id_, FIELD), "replaying a dead letter"
        )
        if not replayed:
            raise _unknown(name)

    async def drop(self, name: str) -> None:
        """Deletes one for good.

        Raises:
            Misconfigured: there is none of this name.
            Retry: Redis does not answer.
        """
        shard, id_ = self._parse(name)
        dropped = await self._ask(
            shard, ("XDEL", keys.dead_letters(shard), id_), "dropping a dead letter"
        )
        if not dropped:
            raise _unknown(name)

    async def _range(self, shard: int, start: str, end: str, count: int) -> list[Letter]:
        found = await self._ask(
            shard,
            ("XRANGE", keys.dead_letters(shard), start, end, "COUNT", count),
            "reading dead letters",
        )
        return [
            _letter(shard, id_, dict(zip(fields[::2], fields[1::2], strict=True)))
            for id_, fields in found
        ]

    async def _ask(self, shard: int, command: Command, doing: str) -> Any:
        ((reply,),) = (await ask(self._servers, {shard: [command]}, doing)).values()
        if isinstance(reply, RedisError):
            raise retry_for(reply, doing)
        return reply

    def _parse(self, name: str) -> tuple[int, str]:
        match = _NAME.fullmatch(name)
        if match is None or int(match["shard"]) >= keys.MOST_SHARDS:
            raise _unknown(name)
        return int(match["shard"]), match["id"]


def as_table(letters: Sequence[Letter]) -> str:
    """One line each, for people."""
    if not letters:
        return "no dead letters"
    lines = [f"{'ID':<24} {'reason':<20} {'attempts':>8}  first seen"]
    lines += [
        f"{letter.name:<24} {letter.reason:<20} {letter.attempts:>8}  {letter.first_seen}"
        for letter in letters
    ]
    return "\n".join(lines)


def as_text(letter: Letter) -> str:
    """All that is known of one."""
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

    first_seen_ms = int(text(b"first_seen") or 0)
    return Letter(
        shard=shard,
        id=id_.decode(),
        reason=text(b"reason"),
        detail=text(b"detail"),
        entry=text(b"entry"),
        attempts=int(text(b"attempts") or 0),
        first_seen=datetime.fromtimestamp(first_seen_ms / 1000, UTC).isoformat(
            timespec="milliseconds"
        ),
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


def _unknown(name: str) -> Misconfigured:
    return Misconfigured("ID", f"there is no dead letter {name!r}", "3:1795359513326-0")
