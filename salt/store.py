"""The month's salt in Redis: the only code that makes, reads and destroys it.

Rotation does so on a schedule. A collector that finds a month without a salt does the same.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

from redis.asyncio import Redis

from contract import keys
from contract.calendar import SECOND_US, Month, from_us, month_at
from contract.errors import ClocksDisagree, Retry
from contract.identity import SALT_BYTES
from runtime.redis_client import as_retry
from salt.term import Ensured, Observed, Outcome, Salt, Term, made_at_us, microseconds

_ROTATE = files("salt").joinpath("rotate.lua").read_text()
_PUSH_OUT = files("salt").joinpath("push_out.lua").read_text()
# Smaller than what a server reads at once, and than a connection's reply buffer.
_FILLER = bytes(15 * 1024)
_SHORT_FILLER = bytes(256)  # longer than an answer with a salt
_ATTEMPTS = 3  # a month can end between reading the clock and the script, but not twice in a row
# How long to wait for a missing salt: a process that holds it checks once a second.
_MISSING_SECONDS = 2.5
_CHECK_AGAIN_SECONDS = 0.25
_NO_KEY = -2  # PEXPIRETIME's answer for a key that does not exist
# As in the script: two clocks agree if they differ by no more than this.
AGREE_US = 3600 * SECOND_US

Witnesses = Callable[[], Awaitable[Iterable[int]]]
"""Asks other clocks than the salt server's for the time, in microseconds. It does not fail."""


async def _no_witnesses() -> Iterable[int]:
    return ()


class SaltStore:
    """The salt's keys on one server. Methods raise Retry if it does not answer."""

    def __init__(
        self,
        redis: Redis,
        zone: ZoneInfo,
        witnesses: Witnesses = _no_witnesses,
        *,
        sets_expiry: bool = False,
    ) -> None:
        """
        Args:
            redis: the salt's server.
            zone: the time zone of the months.
            witnesses: other clocks, with which the server's is compared before a month ends.
            sets_expiry: whether the months of `zone` decide when a salt expires, as in rotation.
        """
        self._redis = redis
        self._zone = zone
        self._witnesses = witnesses
        self._sets_expiry = sets_expiry
        self._script = redis.register_script(_ROTATE)
        self._push_out = redis.register_script(_PUSH_OUT)
        self._seen: Month | None = None  # whose salt was on the server

    async def server_us(self) -> int:
        """The server's clock, in microseconds."""
        with as_retry("reading the server's clock"):
            return microseconds(await self._redis.time())

    async def server_month(self) -> Month:
        """The present month by the server's clock."""
        return month_at(await self.server_us(), self._zone)

    async def recorded_month(self) -> Month | None:
        """The month whose salt is in force; None before the first."""
        with as_retry("reading the salt's month"):
            text = await self._redis.get(keys.CURRENT_SALT)
        return Month.parse(text.decode()) if isinstance(text, bytes) else None

    async def salt_keys(self) -> list[str]:
        """The key of every salt on the server, sorted: normally only one."""
        with as_retry("searching for salts"):
            found = {key.decode() async for key in self._redis.scan_iter(keys.SALT_PATTERN, 1000)}
        return sorted(found - {keys.CURRENT_SALT})

    async def dies_us(self, month: Month) -> int | None:
        """When a month's salt expires, in microseconds; 0: never; None: it is not there."""
        with as_retry("reading the salt's expiry"):
            dies_ms = await self._redis.pexpiretime(keys.salt(month))
        return None if dies_ms == _NO_KEY else max(dies_ms, 0) * 1000

    async def made(self, month: Month) -> tuple[int, Outcome] | None:
        """When a month's salt was made, in microseconds, and why; None: it is unknown."""
        with as_retry("reading when the salt was made"):
            rotations: Any = await self._redis.xrevrange(keys.ROTATIONS, count=1)
        if not rotations or rotations[0][1][b"month"].decode() != str(month):
            return None
        fields = rotations[0][1]
        return made_at_us(fields), Outcome(fields[b"outcome"].decode())

    async def observe(self, month: Month) -> Observed:
        """A month's salt and the server's clock."""
        with as_retry("reading the salt"):
            # One connection: the server's buffer for it keeps the last answer, which is the echo's.
            async with self._redis.client() as connection:
                value: Any = await connection.get(keys.salt(month))
                expires_ms = await connection.pexpiretime(keys.salt(month))
                recorded: Any = await connection.get(keys.CURRENT_SALT)
                server_time = await connection.time()
                await connection.echo(_SHORT_FILLER)
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
        return any(abs(us - server_us) > AGREE_US for us in await self._witnesses())

    async def ensure(self, *, replace: bool = False, held: Salt | None = None) -> Ensured:
        """Makes sure that the server's current month has its salt, and that no other month has one.

        If the salt is missing, it waits, because a process that holds it puts it back.

        Args:
            replace: make a new salt even if the month has one (which has leaked), or if a later
                month is recorded (because a clock was ahead).
            held: the salt that this process has, to put it back if the server has lost it.

        Raises:
            ClocksDisagree: other clocks contradict the server's, and a salt would be made or
                destroyed; or the recorded month is so far ahead that flushers refuse its sessions.
            Retry: also if the server's clock has jumped repeatedly.
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
                    await asyncio.sleep(_CHECK_AGAIN_SECONDS)
                    continue
                case b"clocks_disagree":
                    raise _contradicted(microseconds(server_time))
                case b"another_month":
                    pass
                case b"clock_went_back" | b"another_calendar":
                    in_force = Month.parse(recorded.decode())
                    why, server_us = Outcome(outcome.decode()), microseconds(server_time)
                    goes_on = await self._going_on(why, in_force, server_us)
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
        witnesses_ms = [us // 1000 for us in await self._witnesses()]
        put_back = held.value if held is not None and held.month == month else b""

        async def run(fresh: bytes) -> list[Any]:
            script_keys = [
                keys.CURRENT_SALT,
                keys.salt(month),
                keys.ROTATIONS,
                keys.DISPOSAL_DUE,
                *others,
            ]
            arguments: list[str | bytes | int] = [
                str(month),
                month.starts_us(self._zone) // 1000,
                self._ends_ms(month),
                fresh,
                int(replace),
                put_back,
                int(self._seen == month),
                int(has_waited),
                int(self._sets_expiry),
                *witnesses_ms,
            ]
            async with self._redis.client() as connection:
                reply: list[Any] = await self._script(script_keys, arguments, connection)
                if fresh or put_back:
                    await self._overwrite(connection)
            return reply

        with as_retry("rotating the salt"):
            reply = await run(b"")
            if reply[0] == b"salt_wanted":
                reply = await run(secrets.token_bytes(SALT_BYTES))
            return reply

    async def push_out(self) -> None:
        """Overwrites the freed memory of the server and its replicas.

        Raises:
            RedisError: the server does not answer, or refuses.
        """
        async with self._redis.client() as connection:
            await self._overwrite(connection)

    async def _overwrite(self, connection: Redis) -> None:
        """Also overwrites the buffers that the server has for this one connection."""
        await self._push_out([keys.SCRUB], client=connection)
        await connection.echo(_FILLER)

    async def _going_on(self, outcome: Outcome, recorded: Month, server_us: int) -> Ensured | None:
        """The result if the recorded month goes on, though the server's clock is in another month.
        None: the recorded month's salt is gone.

        Raises:
            ClocksDisagree: flushers refuse sessions of the recorded month.
        """
        dies_us = await self.dies_us(recorded)
        if dies_us is None:
            return None
        term = self._term(recorded)
        if not term.makes_rows_at(max(server_us, *await self._witnesses(), 0)):
            raise ClocksDisagree(
                f"the salt in force is that of {recorded}, far in the future: after all clocks are "
                "right, `python -m rotation rotate --force` restores the present month"
            )
        other_calendar = dies_us != self._ends_ms(recorded) * 1000
        if outcome is Outcome.ANOTHER_CALENDAR:
            # By our calendar it is over, but rotation's calendar decides.
            term = Term(recorded, term.starts_us, dies_us)
        return Ensured(outcome, term, server_us, other_calendar)

    def _ends_ms(self, month: Month) -> int:
        return month.ends_us(self._zone) // 1000

    def _term(self, month: Month) -> Term:
        return Term(month, month.starts_us(self._zone), month.ends_us(self._zone))


def _contradicted(server_us: int) -> ClocksDisagree:
    return ClocksDisagree(
        f"by the salt's server it is {from_us(server_us):%Y-%m-%d %H:%M} UTC, and other clocks "
        "differ by more than an hour: no salt is made or destroyed; correct the wrong clock"
    )
