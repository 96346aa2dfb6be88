"""Step 6: the month, its salt and the time, which always agree.

The salt server's clock is followed, so that a collector whose own clock is wrong still hashes
with everybody else, and stamps what it hashes with the month that the salt is of.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from contract.calendar import SECOND_US
from runtime.periodic import Told, repeat
from runtime.stopping import Stopping
from salt.store import Ensured, Outcome, Salt, SaltStore

REFRESH_SECONDS = 1.0
# An answer that took longer leaves open what time it is: the question is asked again at once.
_WELL_KNOWN_US = SECOND_US // 10
_AGAIN_SECONDS = 0.05
# Of two sessions the later is the newer, if we were ahead of the server by this much at the most.
_STANDS_STILL_US = SECOND_US
_AROUND_THE_END_SECONDS = 0.005
_NOT_KNOWN_US = 10**18
_LONGEST_TIMER_SECONDS = 86_400.0  # then it looks again, since clocks are followed

log = structlog.get_logger()


# A clock that nobody sets, and that goes on while the machine is suspended where there is one.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _steady_seconds() -> float:
    return time.clock_gettime(_CLOCK)


class MonthlySalt:
    """The salt in force, kept in memory for as long as its month lasts and not a moment longer."""

    def __init__(
        self, store: SaltStore, steady_seconds: Callable[[], float] = _steady_seconds
    ) -> None:
        self._store = store
        self._steady_seconds = steady_seconds
        self._salt: Salt | None = None
        self._server_less_steady_us = 0
        self._latest_us = 0
        self._uncertain_us = _NOT_KNOWN_US
        self._followed_us = self._steady_us()
        self._refreshing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> tuple[Salt, int] | None:
        """The salt and the instant that it is valid for, or None when there is none in memory.

        Of two calls the later one has the later instant, unless we were ahead of the server by more
        than a second.
        """
        valid = self._in_force()
        if valid is None:
            return None
        salt, now_us = valid
        if now_us < self._latest_us:
            # We were ahead of the server, and know better now. Whoever comes later began later all
            # the same: an upgrade of `current` takes the newest session.
            now_us = min(self._latest_us + 1, salt.ends_us - 1)
        self._latest_us = now_us
        return salt, now_us

    async def get(self) -> tuple[Salt, int]:
        """As `now`, asking Redis where memory has none. Any number of callers share one question.

        Raises:
            Retry: Redis does not answer.
        """
        while (valid := self.now()) is None:
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = asyncio.create_task(self._ensure())
            # A request that goes away must not take the others' answer with it.
            await asyncio.shield(self._refreshing)
            if not self.is_current():
                await asyncio.sleep(_AROUND_THE_END_SECONDS)  # the server's month has yet to end
        return valid

    async def keep_fresh(self, stopping: Stopping) -> None:
        """Follows the server until asked to stop: its clock, a replaced salt, the month's end."""
        told = Told(
            "the salt could not be checked",
            "the salt is checked again",
            "see that the salt's Redis is up",
        )
        await repeat(self._refresh, stopping, self._seconds_to_next_look, trouble=told)

    def is_current(self) -> bool:
        """Whether a request that came now would find its salt in memory."""
        return self._in_force() is not None

    def _in_force(self) -> tuple[Salt, int] | None:
        salt = self._salt
        if salt is None:
            return None
        now_us = self._now_us()
        if now_us >= salt.ends_us:
            self._salt = None
            return None
        # The server's clock was set back after its month began: the month stays as it is.
        return salt, max(now_us, salt.starts_us)

    async def _refresh(self) -> None:
        valid = self._in_force()
        if valid is None:
            await self.get()
            return
        month = valid[0].month
        del valid  # the wait may outlast the month, and no name of it here may
        asked_us = self._steady_us()
        salt, server_us = await self._store.observe(month)
        self._follow(server_us, asked_us)
        if salt is None:
            await self._ensure()
        elif self._salt is not None and salt.value != self._salt.value:
            self._hold(salt)
            log.warning("the salt was replaced within its month", month=str(salt.month))

    async def _ensure(self) -> None:
        asked_us = self._steady_us()
        ensured = await self._store.ensure()
        self._follow(ensured.server_us, asked_us)
        self._hold(ensured.salt)
        _report(ensured)

    def _hold(self, salt: Salt) -> None:
        self._salt = salt
        if self._timer is not None:
            self._timer.cancel()
        self._drop_when_over()

    def _drop_when_over(self) -> None:
        """Drops the salt when its month ends, whether or not anybody asks for it then."""
        valid = self._in_force()
        if valid is not None:
            salt, now_us = valid
            left = min((salt.ends_us - now_us) / SECOND_US, _LONGEST_TIMER_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(left, self._drop_when_over)

    def _follow(self, server_us: int, asked_us: int) -> None:
        # As if the answer had been under way for all of the time since the question: our clock is
        # then ahead of the server's by as much at the most, and no salt outlives its month.
        now_us = self._steady_us()
        uncertain_us = now_us - asked_us
        # What was known before is better than an answer that took its time: a steady clock strays
        # by far less than one per cent.
        known_us = self._uncertain_us + (now_us - self._followed_us) // 100
        if uncertain_us <= known_us:
            server_less_steady_us = server_us - asked_us
            if self._server_less_steady_us - server_less_steady_us > _STANDS_STILL_US:
                self._latest_us = 0  # set back, or so far ahead that to be right matters more
            self._server_less_steady_us = server_less_steady_us
            self._uncertain_us = uncertain_us
            self._followed_us = now_us

    def _now_us(self) -> int:
        return self._steady_us() + self._server_less_steady_us

    def _steady_us(self) -> int:
        return int(self._steady_seconds() * SECOND_US)

    def _seconds_to_next_look(self) -> float:
        valid = self._in_force()
        if valid is None:
            return REFRESH_SECONDS
        salt, now_us = valid
        pause = REFRESH_SECONDS if self._uncertain_us <= _WELL_KNOWN_US else _AGAIN_SECONDS
        return min(pause, (salt.ends_us - now_us) / SECOND_US)


def _report(ensured: Ensured) -> None:
    month = str(ensured.salt.month)
    match ensured.outcome:
        case Outcome.UNCHANGED:
            log.info("the month's salt was read", month=month)
        case Outcome.ROTATED:
            log.info(
                "a month has ended: its salt is destroyed and the next is in force", month=month
            )
        case Outcome.FIRST:
            log.warning("no salt was recorded: the first was made", month=month)
        case Outcome.LOST | Outcome.REPLACED:
            log.error(
                "the month's salt was lost and a new one made: "
                "who came before and comes again is counted twice this month",
                month=month,
            )
        case Outcome.CLOCK_WENT_BACK:
            log.error(
                "the salt server's clock is in an earlier month than its salt: "
                "the later month goes on; check that clock",
                month=month,
            )
