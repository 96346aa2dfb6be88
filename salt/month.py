"""The month, its salt and the time, which always agree.

They follow the clock of the salt's server, so that a collector whose own clock is wrong uses the
same month and salt as the others. If that clock jumps and other clocks contradict it, the collector
keeps its salt and uses its own monotonic clock.
"""

import asyncio
from collections.abc import Callable

import structlog

from contract.calendar import SECOND_US
from contract.errors import ClocksDisagree, Retry
from runtime.periodic import Outage, failure_log, repeat
from runtime.stopping import Stopping
from salt.followed_clock import FollowedClock, steady_seconds
from salt.report import log_doubt, log_outcome
from salt.store import AGREE_US, SaltStore
from salt.term import Salt

REFRESH_SECONDS = 1.0
# After an answer that was too slow to know the time well.
_AGAIN_SECONDS = 0.05
_AROUND_THE_END_SECONDS = 0.005
# How long to try again while clocks disagree: less than a request waits for its salt.
_DISAGREE_SECONDS = 4.0
_ASK_AGAIN_SECONDS = 0.1
_SHORTEST_TIMER_SECONDS, _LONGEST_TIMER_SECONDS = 0.01, 86_400.0  # then the time is checked again

log = structlog.get_logger()


class MonthlySalt:
    """The salt in force, cached in memory until its month ends. After that its bytes stay in freed
    memory, because Python can't overwrite them.
    """

    def __init__(
        self,
        store: SaltStore,
        steady_seconds: Callable[[], float] = steady_seconds,
        dropped: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            store: where the salt is.
            steady_seconds: a monotonic clock, in seconds.
            dropped: called when the cached salt is dropped; it must not raise.
        """
        self._store = store
        self._steady_seconds = steady_seconds
        self._clock = FollowedClock(steady_seconds)
        self._dropped = dropped
        self._salt: Salt | None = None
        self._latest_us = 0
        self._refreshing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # The server's clock was past the salt's end, but others contradicted it: the salt may have
        # expired there, although its month goes on.
        self._may_have_expired = False
        self._doubt = Outage("the clock of the salt's server is believed again")
        # For an operator: what is wrong with that clock, and with the calendar; None: nothing.
        self.clock_doubt: str | None = None
        self.calendar_doubt: str | None = None

    def now(self) -> tuple[Salt, int] | None:
        """The salt, and the present time within its month; None if no salt is in memory.

        A later call returns a later time, unless we were ahead of the server by more than a second.
        """
        salt = self._salt
        if salt is None:
            return None
        # As the clock's `now_us`, but without its calls, which cost each request two microseconds.
        now_us = int(self._steady_seconds() * SECOND_US) + self._clock.server_less_steady_us
        if now_us >= salt.ends_us:
            self._drop()
            return None
        # If the server's clock was set back after the month began, the month goes on.
        now_us = max(now_us, salt.starts_us)
        if now_us < self._latest_us:
            # Our clock was ahead and was set back. A later session must still get a later time,
            # because an upgrade of `current` takes the newest session.
            now_us = min(self._latest_us + 1, salt.ends_us - 1)
        self._latest_us = now_us
        return salt, now_us

    async def get(self) -> tuple[Salt, int]:
        """Like `now`, but asks Redis if no salt is in memory. All waiting callers share one query.

        Raises:
            ClocksDisagree: there is no salt for this month until clocks are corrected.
            Retry: Redis does not answer.
        """
        deadline = asyncio.get_running_loop().time() + _DISAGREE_SECONDS
        while (valid := self.now()) is None:
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = asyncio.create_task(self._ensure())
            # A request that is cancelled must not cancel the query of the others.
            try:
                await asyncio.shield(self._refreshing)
            except ClocksDisagree:
                # If only our own clock is wrong, another process makes the month's salt.
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
                continue
            if not self.is_current():
                # By the server's clock, the month goes on.
                await asyncio.sleep(_AROUND_THE_END_SECONDS)
        return valid

    async def keep_fresh(self, stopping: Stopping) -> None:
        """Follows the server until asked to stop: its clock, its salt, the month's end."""
        report = failure_log(
            "the salt could not be checked",
            "the salt is checked again",
            "check that the salt's Redis is up",
        )
        await repeat(self._refresh, stopping, self._seconds_to_next_check, report=report)

    def is_current(self) -> bool:
        """Whether the salt is in memory now."""
        return self.now() is not None

    async def _refresh(self) -> None:
        valid = self.now()
        if valid is None:
            await self.get()
            return
        month = valid[0].month
        del valid  # this reference to the salt must not outlast the month, as the wait may
        asked_us = self._clock.steady_us()
        observed = await self._store.observe(month)
        server_us = observed.server_us
        has_jumped = abs(server_us - self._clock.now_us()) > AGREE_US
        if has_jumped and await self._store.is_contradicted(server_us):
            if self._salt is not None and server_us >= self._salt.ends_us:
                self._may_have_expired = True
            self._note_doubt("it has jumped by more than an hour, and other clocks have not")
            if observed.recorded in (None, month):
                return  # no process has recorded another month
        else:
            self._follow(server_us, asked_us)
            self._note_belief()
            if has_jumped and self._salt is not None and not self._salt.makes_rows_at(server_us):
                self._drop()  # the clock was ahead, and so was the month
                await self.get()
                return
        if observed.salt is None:
            await self._ensure(put_back=observed.recorded is None or self._may_have_expired)
            return
        self._may_have_expired = False
        self._note_calendar(other=observed.other_calendar)
        if self._salt is not None and observed.salt.value != self._salt.value:
            self._hold(observed.salt)
            log.warning("the salt was replaced within its month", month=str(month))

    async def _ensure(self, *, put_back: bool = False) -> None:
        try:
            # `put_back` is false if the month is still recorded, because then somebody has deleted
            # the salt; unless it may have expired too early.
            ensured = await self._store.ensure(held=self._salt if put_back else None)
        except ClocksDisagree as error:
            self._note_doubt(str(error))
            raise
        asked_us = self._clock.steady_us()
        observed = await self._store.observe(ensured.term.month)
        self._follow(observed.server_us, asked_us)
        self._note_belief()
        self._may_have_expired = False
        self._note_calendar(other=ensured.other_calendar)
        if observed.salt is None:
            raise Retry("salt", "the salt is gone although it was just made")
        self._hold(Salt.of(ensured.term, observed.salt.value))
        log_outcome(ensured)

    def _note_doubt(self, why: str) -> None:
        self.clock_doubt = "other clocks differ from that of the salt's server by more than an hour"
        self._doubt.fails()
        log_doubt(
            "the clock of the salt's server is contradicted: it alone does not end a month", why
        )

    def _note_belief(self) -> None:
        self.clock_doubt = None
        self._doubt.works()

    def _note_calendar(self, *, other: bool) -> None:
        self.calendar_doubt = None
        if other:
            self.calendar_doubt = (
                "CALENDAR_TIMEZONE differs from rotation's, or rotation does not run"
            )
            log.error(
                "the month ends at another time here than by rotation's calendar",
                to_do="give rotation and then the collectors the same CALENDAR_TIMEZONE, and check "
                "that rotation runs",
            )

    def _follow(self, server_us: int, asked_us: int) -> None:
        if self._clock.follow(server_us, asked_us):
            self._latest_us = 0

    def _drop(self) -> None:
        self._salt = None
        self._dropped()

    def _hold(self, salt: Salt) -> None:
        if self._salt is not None and self._salt.value != salt.value:
            self._drop()
        self._salt = salt
        if self._timer is not None:
            self._timer.cancel()
        self._drop_when_over()

    def _drop_when_over(self) -> None:
        """Drops the salt when its month ends, even if no request comes."""
        if (left := self._seconds_left()) is not None:
            pause = min(max(left, _SHORTEST_TIMER_SECONDS), _LONGEST_TIMER_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(pause, self._drop_when_over)

    def _seconds_to_next_check(self) -> float:
        pause = REFRESH_SECONDS if self._clock.is_well_known else _AGAIN_SECONDS
        left = self._seconds_left()
        return REFRESH_SECONDS if left is None else min(pause, left)

    def _seconds_left(self) -> float | None:
        """Until the month ends; None if no salt is in memory."""
        valid = self.now()
        return None if valid is None else (valid[0].ends_us - valid[1]) / SECOND_US
