"""The month's salt in Redis: the only code that makes, reads and destroys it.

Rotation calls it on a schedule. A collector that finds a month without a salt calls the same
script, so that no month begins without one.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contract import keys
from contract.calendar import SECOND_US, Month, from_us, month_at
from contract.errors import ClocksDisagree, Retry
from contract.identity import SALT_BYTES
from runtime.redis_client import retry_for
from salt.server_memory import push_out
from salt.term import Ensured, Life, Observed, Outcome, Salt, Term, made_at_us, microseconds

_SCRIPT = files("salt").joinpath("rotate.lua").read_text()
_ATTEMPTS = 3  # a month can end between reading the clock and the script; not twice in a row
# For how long a missing salt is waited for: a process that holds it looks once a second.
_MISSING_SECONDS = 2.5
_LOOK_AGAIN_SECONDS = 0.25
_NO_KEY = -2  # what PEXPIRETIME says of a key that is not there
# As in the script: clocks that differ by less are clocks that agree.
AGREE_US = 3600 * SECOND_US

Opinions = Callable[[], Awaitable[Iterable[int]]]
"""Asks what time it is by others than the salt's server, in microseconds. It does not fail."""


async def _nobody() -> Iterable[int]:
    return ()


class SaltStore:
    """The salt's keys on one server."""

    def __init__(
        self,
        redis: Redis,
        zone: ZoneInfo,
        opinions: Opinions = _nobody,
        *,
        sets_expiry: bool = False,
    ) -> None:
        """
        Args:
            redis: the salt's server.
            zone: whose calendar months count.
            opinions: other clocks, with which the server's is compared before a month ends.
            sets_expiry: whether it sets a salt's expiry by `zone`, as rotation does.
        """
        self._redis = redis
        self._zone = zone
        self._opinions = opinions
        self._sets_expiry = sets_expiry
        self._script = redis.register_script(_SCRIPT)
        self._seen: Month | None = None  # of which a salt was there

    async def server_us(self) -> int:
        """The server's clock in microseconds.

        Raises:
            Retry: Redis does not answer.
        """
        try:
            return microseconds(await self._redis.time())
        except RedisError as error:
            raise retry_for(error, "reading the server's clock") from None

    async def server_month(self) -> Month:
        """The present month by the server's clock.

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
        """The key of every salt on the server, sorted: normally only one.

        Raises:
            Retry: Redis does not answer.
        """
        try:
            found = {key.decode() async for key in self._redis.scan_iter(keys.SALT_PATTERN, 1000)}
        except RedisError as error:
            raise retry_for(error, "looking for salts") from None
        return sorted(found - {keys.CURRENT_SALT})

    async def life(self, month: Month) -> Life:
        """When a month's salt was made, why, and when it expires.

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
            made_us = made_at_us(rotations[0][1])
            made_because = Outcome(rotations[0][1][b"outcome"].decode())
        dies_us = dies_ms * 1000 if dies_ms > 0 else None
        return Life(made_us, dies_us, made_because, dies_ms != _NO_KEY)

    async def read(self, term: Term) -> Salt | None:
        """A month's salt, or None if it is not there.

        Raises:
            Retry: Redis does not answer.
        """
        try:
            value: Any = await self._redis.get(keys.salt(term.month))
        except RedisError as error:
            raise retry_for(error, "reading the salt") from None
        return Salt.of(term, value) if value else None

    async def observe(self, month: Month) -> Observed:
        """What the server has of a month, in one round trip.

        Raises:
            Retry: Redis does not answer.
        """
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.get(keys.salt(month))
        pipeline.pexpiretime(keys.salt(month))
        pipeline.get(keys.CURRENT_SALT)
        pipeline.time()
        try:
            value, expires_ms, recorded, server_time = await pipeline.execute()
        except RedisError as error:
            raise retry_for(error, "reading the salt") from None
        if value:
            self._seen = month
        return Observed(
            Salt.of(self._term(month), value) if value else None,
            microseconds(server_time),
            Month.parse(recorded.decode()) if recorded else None,
            bool(value) and expires_ms != self._ends_ms(month),
        )

    async def is_contradicted(self, server_us: int) -> bool:
        """Whether other clocks contradict the server's time."""
        return any(abs(us - server_us) > AGREE_US for us in await self._opinions())

    async def ensure(self, *, replace: bool = False, held: Salt | None = None) -> Ensured:
        """Makes sure that the server's current month has its salt and that no other month does.

        If the salt is missing, it waits: a process that holds it puts it back within a second.

        Args:
            replace: make a new one even if the month has one (a leaked salt), or if a later month
                is recorded (a clock that was ahead).
            held: the salt that this process has, if it vanished from the server by accident: it is
                put back.

        Raises:
            ClocksDisagree: a month would end, or a salt would be made or destroyed, against other
                clocks; or the recorded month is too far ahead for its sessions to be counted.
            Retry: Redis does not answer, or its clock can't be followed.
        """
        missing_since: float | None = None
        attempts = 0
        while attempts < _ATTEMPTS:
            month = await self.server_month()
            has_waited = (
                missing_since is not None and time.monotonic() - missing_since > _MISSING_SECONDS
            )
            reply = await self._rotate(month, held, replace=replace, has_waited=has_waited)
            outcome, recorded, server_time, *expired = reply
            match outcome:
                case b"missing":
                    missing_since = missing_since or time.monotonic()
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)
                    continue
                case b"clocks_disagree":
                    raise _contradicted(microseconds(server_time))
                case b"another_month":
                    pass
                case b"clock_went_back" | b"another_calendar":
                    goes_on = await self._going_on(
                        Outcome(outcome.decode()), Month.parse(recorded.decode())
                    )
                    if goes_on is not None:
                        return goes_on
                case _:
                    self._seen = month
                    return Ensured(
                        Outcome(outcome.decode()),
                        self._term(month),
                        microseconds(server_time),
                        expired != [self._ends_ms(month)],
                    )
            attempts += 1
        raise Retry("salt", "the salt server's clock moved while the salt was looked up")

    async def _rotate(
        self, month: Month, held: Salt | None, *, replace: bool, has_waited: bool
    ) -> list[Any]:
        """Runs the script; a second time, with a new salt, if it asks for one."""
        others = await self.salt_keys()
        opinions = [us // 1000 for us in await self._opinions()]
        put_back = held.value if held is not None and held.month == month else b""

        async def run(fresh: bytes) -> list[Any]:
            reply: list[Any] = await self._script(
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
                    self._ends_ms(month),
                    fresh,
                    int(replace),
                    put_back,
                    int(self._seen == month),
                    int(has_waited),
                    int(self._sets_expiry),
                    *opinions,
                ],
            )
            if fresh or put_back:
                await push_out(self._redis)
            return reply

        try:
            reply = await run(b"")
            return (
                await run(secrets.token_bytes(SALT_BYTES)) if reply[0] == b"salt_wanted" else reply
            )
        except RedisError as error:
            raise retry_for(error, "rotating the salt") from None

    async def _going_on(self, outcome: Outcome, recorded: Month) -> Ensured | None:
        """The result if the recorded month is not that of the server's clock; None: its salt is
        gone.

        Raises:
            ClocksDisagree: sessions can't be counted in the recorded month.
            Retry: Redis does not answer.
        """
        life, server_us = await self.life(recorded), await self.server_us()
        if not life.is_there:
            return None
        term = self._term(recorded)
        if not term.makes_rows_at(max(server_us, *await self._opinions(), 0)):
            raise ClocksDisagree(
                f"the salt of {recorded} is in force, which is far ahead: `python -m rotation "
                "rotate --force` brings the present month back, once all clocks are right"
            )
        other_calendar = life.dies_us != self._ends_ms(recorded) * 1000
        if outcome is Outcome.ANOTHER_CALENDAR:
            # By our calendar it is over; by the one that counts it is not.
            term = Term(recorded, term.starts_us, life.dies_us or server_us)
        return Ensured(outcome, term, server_us, other_calendar)

    def _ends_ms(self, month: Month) -> int:
        return month.ends_us(self._zone) // 1000

    def _term(self, month: Month) -> Term:
        return Term(month, month.starts_us(self._zone), month.ends_us(self._zone))


def _contradicted(server_us: int) -> ClocksDisagree:
    return ClocksDisagree(
        f"the salt's server says that it is {from_us(server_us):%Y-%m-%d %H:%M} UTC, and others' "
        "clocks differ by more than an hour: no salt is made or destroyed; correct the clock"
    )
