"""The month's salt in Redis: the one place that makes, reads and destroys it.

Rotation calls it on a schedule, and a collector that meets a month without a salt calls the same
script, so that no month begins without one.
"""

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contract import keys
from contract.calendar import SECOND_US, Month, month_at
from contract.errors import Retry
from contract.identity import SALT_BYTES, Hasher
from runtime.redis_client import retry_for

_SCRIPT = files("salt").joinpath("rotate.lua").read_text()
_ATTEMPTS = 3  # a month can end between reading the clock and the script; not twice in a row


class Outcome(StrEnum):
    """What `ensure` found or did."""

    UNCHANGED = "unchanged"  # the month has its salt
    ROTATED = "rotated"  # a new month: it has one now, and the earlier month's is destroyed
    FIRST = "first"  # no month was recorded: a new installation, or everything was lost
    LOST = "lost"  # the month's salt had vanished: its visitors are counted anew from here on
    REPLACED = "replaced"  # as LOST, on request
    CLOCK_WENT_BACK = "clock_went_back"  # a later month is recorded: its salt stays in force


@dataclass(frozen=True, slots=True)
class Salt:
    """A month's salt, with the bounds within which it may be used, in microseconds."""

    month: Month
    starts_us: int
    ends_us: int
    value: bytes = field(repr=False)
    hasher: Hasher = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hasher", Hasher(self.value))  # it is frozen for everybody else


@dataclass(frozen=True, slots=True)
class Ensured:
    """The salt in force, what was done to have it, and the server's clock in microseconds."""

    outcome: Outcome
    salt: Salt
    server_us: int


@dataclass(frozen=True, slots=True)
class Life:
    """When a month's salt was made and when it expires, in microseconds, and why it was made; None
    where not known.
    """

    made_us: int | None
    dies_us: int | None
    made_because: Outcome | None


class SaltStore:
    """The salt's keys on one server."""

    def __init__(self, redis: Redis, zone: ZoneInfo) -> None:
        self._redis = redis
        self._zone = zone
        self._script = redis.register_script(_SCRIPT)

    async def server_us(self) -> int:
        """The server's clock in microseconds.

        Raises:
            Retry: Redis does not answer.
        """
        try:
            return _microseconds(await self._redis.time())
        except RedisError as error:
            raise retry_for(error, "reading the server's clock") from None

    async def server_month(self) -> Month:
        """The month that it is by the server's clock.

        Raises:
            Retry: Redis does not answer.
        """
        return month_at(await self.server_us(), self._zone)

    async def recorded_month(self) -> Month | None:
        """The month of the salt in force, as Redis has it; None before the first.

        Raises:
            Retry: Redis does not answer.
        """
        try:
            text = await self._redis.get(keys.CURRENT_SALT)
        except RedisError as error:
            raise retry_for(error, "reading the salt's month") from None
        return Month.parse(text.decode()) if isinstance(text, bytes) else None

    async def salt_keys(self) -> list[str]:
        """The key of every salt on the server, sorted: one, when all is well.

        Raises:
            Retry: Redis does not answer.
        """
        try:
            found = {key.decode() async for key in self._redis.scan_iter(keys.SALT_PATTERN, 1000)}
        except RedisError as error:
            raise retry_for(error, "looking for salts") from None
        return sorted(found - {keys.CURRENT_SALT})

    async def life(self, month: Month) -> Life:
        """When a month's salt was made, why, and when it dies.

        Raises:
            Retry: Redis does not answer.
        """
        try:
            dies_ms = await self._redis.pexpiretime(keys.salt(month))
            rotations: Any = await self._redis.xrevrange(keys.ROTATIONS, count=1)
        except RedisError as error:
            raise retry_for(error, "reading the salt's life") from None
        made_us = made_because = None
        if rotations and rotations[0][1][b"month"].decode() == str(month):
            made_us = int(rotations[0][0].partition(b"-")[0]) * 1000
            made_because = Outcome(rotations[0][1][b"outcome"].decode())
        return Life(made_us, dies_ms * 1000 if dies_ms > 0 else None, made_because)

    async def observe(self, month: Month) -> tuple[Salt | None, int]:
        """A month's salt if the server still has it, and the server's clock, in one round trip.

        Raises:
            Retry: Redis does not answer.
        """
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.get(keys.salt(month))
        pipeline.time()
        try:
            value, time = await pipeline.execute()
        except RedisError as error:
            raise retry_for(error, "reading the salt") from None
        return (self._salt(month, value) if value else None), _microseconds(time)

    async def ensure(self, *, replace: bool = False) -> Ensured:
        """Makes sure that the server's current month has its salt and that no other month does.

        Args:
            replace: make a new one even if the month has one (a leaked salt).

        Raises:
            Retry: Redis does not answer, or its clock is not to be followed.
        """
        for _ in range(_ATTEMPTS):
            month = await self.server_month()
            others = await self.salt_keys()
            try:
                reply = await self._script(
                    keys=[
                        keys.CURRENT_SALT,
                        keys.salt(month),
                        keys.ROTATIONS,
                        keys.DISPOSAL_DUE,
                        *others,
                    ],
                    args=[
                        str(month),
                        month.starts_us(self._zone) // 1000,
                        month.ends_us(self._zone) // 1000,
                        secrets.token_bytes(SALT_BYTES),
                        int(replace),
                    ],
                )
            except RedisError as error:
                raise retry_for(error, "rotating the salt") from None
            outcome, recorded, value, time = reply
            if outcome == b"clock_went_back":
                later = Month.parse(recorded.decode())
                salt, server_us = await self.observe(later)
                if salt is not None:
                    return Ensured(Outcome.CLOCK_WENT_BACK, salt, server_us)
            elif outcome != b"another_month":
                return Ensured(
                    Outcome(outcome.decode()), self._salt(month, value), _server_us(time)
                )
        raise Retry("salt", "the salt server's clock moved while the salt was looked up")

    def _salt(self, month: Month, value: bytes) -> Salt:
        return Salt(month, month.starts_us(self._zone), month.ends_us(self._zone), value)


def _server_us(time: list[bytes]) -> int:
    return _microseconds((int(time[0]), int(time[1])))


def _microseconds(time: tuple[int, int]) -> int:
    return time[0] * SECOND_US + time[1]
