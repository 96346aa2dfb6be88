"""salt/month.py: one month, one salt, and none after its month."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.calendar import DAY_US, SECOND_US, Month, month_at
from contract.errors import ClocksDisagree, Retry
from runtime.stopping import Stopping
from salt.month import REFRESH_SECONDS, MonthlySalt
from salt.store import SaltStore
from salt.term import Ensured, Observed, Outcome, Salt, Term

UTC = ZoneInfo("UTC")
NOVEMBER = Month(2026, 11)
DECEMBER = Month(2026, 12)
STARTS = NOVEMBER.starts_us(UTC)
ENDS = NOVEMBER.ends_us(UTC)
MIDDLE = STARTS + 10 * DAY_US


def salt_of(month: Month, made: int = 0) -> Salt:
    value = hashlib.sha256(f"{month} {made}".encode()).digest()
    return Salt(month, month.starts_us(UTC), month.ends_us(UTC), value)


class Clock:
    """The collector's steady clock, which starts anywhere and goes only when it is told to."""

    def __init__(self) -> None:
        self.us = 123_456 * SECOND_US

    def go(self, us: int) -> None:
        self.us += us

    def __call__(self) -> float:
        return self.us / SECOND_US


class Store:
    """The salt's server: its clock runs with the collector's, set `server_us` apart from it."""

    def __init__(self, clock: Clock, server_us: int) -> None:
        self._clock = clock
        self._ahead_us = server_us - clock.us
        self.made = 0
        self.lost = False
        self.ensured = 0
        self.observed = 0
        self.asked = 0
        self.away = False
        self.outcome = Outcome.UNCHANGED
        self.in_force: Month | None = None
        self.contradicted = False  # by other clocks, when it jumps
        self.refusing = False
        self.other_calendar = False
        self.recorded: Month | None = NOVEMBER
        self.offered: list[Salt | None] = []
        self.gate: asyncio.Event | None = None
        self.on_question: Callable[[], None] = lambda: None
        self.on_reply: Callable[[], None] = lambda: None

    @property
    def clock_us(self) -> int:
        return self._clock.us + self._ahead_us

    async def server_us(self) -> int:
        self.asked += 1
        self.on_question()
        return self.clock_us

    def set_clock(self, server_us: int) -> None:
        self._ahead_us = server_us - self._clock.us

    async def ensure(self, *, replace: bool = False, held: Salt | None = None) -> Ensured:
        assert not replace, "only a person replaces a salt"
        self.offered.append(held)
        if self.refusing:
            raise ClocksDisagree("the clocks disagree")
        self.ensured += 1
        await self._pass()
        if self.lost:
            self.made, self.lost = self.made + 1, False
        reply = Ensured(self.outcome, salt_of(self._month(), self.made), self.clock_us)
        self.on_reply()
        return reply

    async def read(self, term: Term) -> Salt | None:
        return salt_of(term.month, self.made)

    async def is_contradicted(self, server_us: int) -> bool:
        assert server_us == self.clock_us
        return self.contradicted

    async def observe(self, month: Month) -> Observed:
        self.observed += 1
        await self._pass()
        found = None if self.lost or month != self._month() else salt_of(month, self.made)
        reply = Observed(found, self.clock_us, self.recorded, self.other_calendar)
        self.on_reply()
        return reply

    def _month(self) -> Month:
        return self.in_force or month_at(self.clock_us, UTC)

    async def _pass(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        self.on_question()
        if self.away:
            raise Retry("redis_away", "the salt's server is away")


class Pauses(Stopping):
    """Instead of waiting, sets the clock forward; asks to stop after some rounds."""

    def __init__(self, clock: Clock, rounds: int) -> None:
        super().__init__()
        self._clock = clock
        self._rounds = rounds
        self.seconds: list[float] = []
        self.on_wait: Callable[[], None] = lambda: None

    async def wait(self, seconds: float | None = None) -> bool:
        assert seconds is not None, "it must look again"
        self.seconds.append(seconds)
        self._clock.us += round(seconds * SECOND_US)
        self.on_wait()
        if len(self.seconds) >= self._rounds:
            self.set()
        await asyncio.sleep(0)
        return self.asked


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    return Store(clock, MIDDLE)


@pytest.fixture
def salt(clock: Clock, store: Store) -> MonthlySalt:
    return monthly_salt(clock, store)


def monthly_salt(
    clock: Clock, store: Store, dropped: Callable[[], None] = lambda: None
) -> MonthlySalt:
    return MonthlySalt(cast(SaltStore, store), clock, dropped)


async def test_there_is_none_before_it_was_asked_for(salt: MonthlySalt) -> None:
    assert salt.now() is None
    assert not salt.is_current()


async def test_the_first_request_asks_and_the_next_ones_find_it_in_memory(
    salt: MonthlySalt, store: Store
) -> None:
    assert await salt.get() == (salt_of(NOVEMBER), MIDDLE)
    assert await salt.get() == salt.now() == (salt_of(NOVEMBER), MIDDLE)
    assert salt.is_current()
    assert store.ensured == 1


async def test_the_time_goes_on_between_two_looks_at_the_server(
    salt: MonthlySalt, clock: Clock
) -> None:
    await salt.get()
    clock.us += 7 * SECOND_US
    assert salt.now() == (salt_of(NOVEMBER), MIDDLE + 7 * SECOND_US)


async def test_at_its_months_end_it_is_neither_served_nor_held(
    salt: MonthlySalt, clock: Clock
) -> None:
    await salt.get()
    clock.us += ENDS - MIDDLE - 1
    assert salt.now() == (salt_of(NOVEMBER), ENDS - 1)
    clock.us += 1
    assert salt.now() is None
    assert not salt.is_current()
    assert salt._salt is None
    clock.us -= 1
    assert salt.now() is None, "it can't come back"


# Sixty-fourths of a second, which a float holds exactly.
jumps = st.integers(0, 40 * 86_400 * 64).map(lambda number: number * SECOND_US // 64)


@given(st.integers(STARTS, ENDS - 1), st.lists(jumps, max_size=6))
def test_no_salt_is_ever_served_outside_of_its_month(at: int, steps: list[int]) -> None:
    """With the instant that goes with it, which is the session's `created_at`."""

    async def story() -> None:
        clock = Clock()
        store = Store(clock, at)
        salt = monthly_salt(clock, store)
        await salt.get()
        for step in steps:
            clock.us += step
            held, instant = salt.now() or await salt.get()
            assert held == salt_of(month_at(store.clock_us, UTC))
            assert held.starts_us <= instant < held.ends_us
            assert instant == store.clock_us

    asyncio.run(story())


async def test_the_next_month_brings_the_next_salt(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    await salt.get()
    clock.us += ENDS - MIDDLE
    assert await salt.get() == (salt_of(DECEMBER), ENDS)
    assert store.ensured == 2


async def test_a_salt_that_ended_on_its_way_is_not_served(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    """Another is asked for at once."""
    store.set_clock(ENDS - 1)
    store.on_reply = lambda: clock.go(1)
    held, instant = await salt.get()
    assert held.starts_us <= instant < held.ends_us


async def test_any_number_of_requests_share_one_question(salt: MonthlySalt, store: Store) -> None:
    store.gate = asyncio.Event()
    asking = [asyncio.create_task(salt.get()) for _ in range(100)]
    await asyncio.sleep(0)
    store.gate.set()
    assert {value for value, _ in await asyncio.gather(*asking)} == {salt_of(NOVEMBER)}
    assert store.ensured == 1


async def test_a_request_that_goes_away_does_not_take_the_answer_with_it(
    salt: MonthlySalt, store: Store
) -> None:
    store.gate = asyncio.Event()
    leaving, staying = asyncio.create_task(salt.get()), asyncio.create_task(salt.get())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    store.gate.set()
    assert await staying == (salt_of(NOVEMBER), MIDDLE)
    assert leaving.cancelled()
    assert store.ensured == 1


async def test_while_the_server_is_away_it_is_retry_and_afterwards_the_salt(
    salt: MonthlySalt, store: Store
) -> None:
    store.away = True
    results = await asyncio.gather(salt.get(), salt.get(), return_exceptions=True)
    assert [type(result) for result in results] == [Retry, Retry]
    store.away = False
    assert await salt.get() == (salt_of(NOVEMBER), MIDDLE)


async def test_the_servers_clock_is_followed_not_the_machines(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    """The steady clock says how much time passed, never what time it is."""
    await salt.get()
    store.set_clock(MIDDLE + 90 * SECOND_US)
    await salt.keep_fresh(Pauses(clock, 1))
    clock.us += SECOND_US
    found = salt.now()
    assert found is not None
    assert found[1] == store.clock_us


async def test_a_server_that_is_set_into_the_next_month_ends_this_one(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    await salt.get()
    store.set_clock(ENDS + SECOND_US)
    await salt.keep_fresh(Pauses(clock, 2))
    found = salt.now()
    assert found is not None
    assert found[0] == salt_of(DECEMBER)


async def test_a_server_that_is_set_back_keeps_the_later_month(
    salt: MonthlySalt, store: Store
) -> None:
    """And stamps sessions with that month: an instant before it would contradict the salt."""
    store.set_clock(ENDS - DAY_US)
    store.in_force, store.outcome = DECEMBER, Outcome.CLOCK_WENT_BACK
    assert await salt.get() == (salt_of(DECEMBER), ENDS)


async def test_a_salt_that_was_replaced_within_its_month_is_picked_up(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    await salt.get()
    store.made = 1
    await salt.keep_fresh(Pauses(clock, 1))
    found = salt.now()
    assert found is not None
    assert found[0] == salt_of(NOVEMBER, made=1)


async def test_a_salt_that_the_server_lost_is_not_used_on(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    """Every collector must change to the new one, or one person has two hashes."""
    await salt.get()
    store.lost, store.outcome = True, Outcome.LOST
    await salt.keep_fresh(Pauses(clock, 1))
    found = salt.now()
    assert found is not None
    assert found[0] == salt_of(NOVEMBER, made=1)


async def test_while_the_server_is_away_the_months_salt_stays_in_use(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    await salt.get()
    store.away = True
    await salt.keep_fresh(Pauses(clock, 3))
    found = salt.now()
    assert found is not None
    assert found[0] == salt_of(NOVEMBER)


async def test_without_requests_it_is_dropped_from_memory_when_its_month_ends(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    """With a server that is away too: nothing may keep it."""
    store.set_clock(ENDS - 2_500_000)
    await salt.get()
    store.away = True
    pauses = Pauses(clock, 10)
    held: list[tuple[bool, bool]] = []
    pauses.on_wait = lambda: held.append((salt._salt is not None, store.clock_us < ENDS))
    await salt.keep_fresh(pauses)
    # It is looked at after each pause, before the round that comes then: on the dot of the end
    # the pause is over, and that round drops it.
    assert held[:3] == [(True, True), (True, True), (True, False)]
    assert held[3:] == [(False, False)] * 7


async def test_that_one_was_dropped_is_told_at_its_months_end(clock: Clock, store: Store) -> None:
    """And not that the first has come. With a server that is away, too."""
    told: list[int] = []
    salt = monthly_salt(clock, store, lambda: told.append(store.clock_us))
    store.set_clock(ENDS - 2_500_000)
    await salt.get()
    store.away = True
    await salt.keep_fresh(Pauses(clock, 10))
    assert told == [ENDS]


async def test_that_one_was_dropped_is_told_when_it_was_replaced(
    clock: Clock, store: Store
) -> None:
    told: list[int] = []
    salt = monthly_salt(clock, store, lambda: told.append(store.made))
    await salt.keep_fresh(Pauses(clock, 3))
    assert told == []
    store.made = 1
    await salt.keep_fresh(Pauses(clock, 3))
    assert told == [1]


async def test_a_pause_ends_with_the_month_and_is_never_longer_than_a_second(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    store.set_clock(ENDS - 1_500_000)
    pauses = Pauses(clock, 3)
    await salt.keep_fresh(pauses)
    assert pauses.seconds == pytest.approx([REFRESH_SECONDS, 0.5, REFRESH_SECONDS])
    found = salt.now()
    assert found is not None
    assert found[0] == salt_of(DECEMBER)


async def test_it_is_fetched_before_the_first_request(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    await salt.keep_fresh(Pauses(clock, 1))
    assert salt.is_current()
    assert store.ensured == 1


async def test_looking_does_not_make_salts(salt: MonthlySalt, clock: Clock, store: Store) -> None:
    await salt.keep_fresh(Pauses(clock, 5))
    assert (store.ensured, store.observed) == (1, 4)


@pytest.mark.parametrize("looking", [False, True])
async def test_an_answer_that_was_long_on_its_way_does_not_prolong_the_month(
    salt: MonthlySalt, clock: Clock, store: Store, *, looking: bool
) -> None:
    """The server's clock went on meanwhile: no salt may be served after its end."""
    store.set_clock(ENDS - 3 * SECOND_US)
    if looking:
        await salt.get()
    store.on_reply = lambda: clock.go(2 * SECOND_US)
    await (salt.keep_fresh(Pauses(clock, 1)) if looking else salt.get())
    store.on_reply = lambda: None
    clock.us += ENDS - store.clock_us
    assert salt.now() is None


def test_a_salts_value_is_not_in_what_is_printed() -> None:
    assert salt_of(NOVEMBER).value.hex() not in repr(salt_of(NOVEMBER))
    assert "value" not in repr(salt_of(NOVEMBER))


async def test_a_salt_that_took_long_leaves_no_clock_that_is_far_ahead(
    clock: Clock, store: Store, salt: MonthlySalt
) -> None:
    """As where its server was frozen meanwhile: several round trips lie between both times."""
    store.on_question = lambda: clock.go(0 if store.asked else 3 * SECOND_US)
    _, now_us = await salt.get()
    assert now_us == store.clock_us
    assert store.asked == 1


async def test_a_salt_that_came_quickly_costs_no_further_question(
    store: Store, salt: MonthlySalt
) -> None:
    await salt.get()
    assert store.asked == 0


async def test_a_slow_answer_does_not_move_a_clock_that_is_known_better() -> None:
    """A server that was frozen answers late: by as much, sessions would begin in the future."""
    clock = Clock()
    store = Store(clock, MIDDLE)
    salt = MonthlySalt(cast(SaltStore, store), clock)
    await salt.get()
    at_once = store.observe

    async def after_a_freeze(month: Month) -> Observed:
        clock.go(4 * SECOND_US)
        return await at_once(month)

    store.observe = after_a_freeze  # type: ignore[method-assign]  # for this one answer
    await salt._refresh()
    valid = salt.now()
    assert valid is not None
    assert abs(valid[1] - store.clock_us) < SECOND_US // 10


async def test_whoever_comes_later_began_later_though_the_clock_was_ahead(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    """On a busy machine one question takes 10 ms and the next one none, which shows it. Seen as an
    upgrade of `current` that took the session before the newest.
    """
    store.on_question = lambda: clock.go(10_000)
    instants = [(await salt.get())[1]]
    store.on_question = lambda: None
    await salt._refresh()
    for _ in range(30):
        clock.go(500)
        instants.append((await salt.get())[1])
    assert instants == sorted(set(instants))
    assert instants[-1] == store.clock_us, "it goes with the server's as soon as it can"


async def test_a_server_that_is_set_back_within_its_month_is_followed(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    """Otherwise the time would stand still for as long as it was wrong."""
    await salt.get()
    store.set_clock(MIDDLE - 3600 * SECOND_US)
    await salt.keep_fresh(Pauses(clock, 1))
    assert salt.now() == (salt_of(NOVEMBER), store.clock_us)


async def test_after_an_answer_that_took_its_time_the_clock_is_asked_for_again_at_once(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    """A collector that starts on a busy machine: for a second its sessions began in the future.
    Seen as `created_at: not when it was sent`, in a test of something else.
    """
    store.on_question = lambda: clock.go(3 * SECOND_US if not store.observed else 0)
    pauses = Pauses(clock, 2)
    found: list[tuple[Salt, int] | None] = []
    pauses.on_wait = lambda: found.append(salt.now())
    await salt.keep_fresh(pauses)
    assert pauses.seconds == pytest.approx([0.05, REFRESH_SECONDS])
    assert found[0] == (salt_of(NOVEMBER), store.clock_us - SECOND_US + 3 * SECOND_US)
    assert found[1] == (salt_of(NOVEMBER), store.clock_us)


@pytest.mark.parametrize("days", [-80, -5, 5, 40, 80])
async def test_a_jump_that_others_have_not_seen_is_not_followed(
    salt: MonthlySalt, clock: Clock, store: Store, days: int
) -> None:
    """Though the month's salt may have expired by it on the server. It serves on, by our time."""
    await salt.get()
    store.contradicted = True
    store.set_clock(MIDDLE + days * DAY_US)
    await salt.keep_fresh(Pauses(clock, 3))
    assert salt.now() == (salt_of(NOVEMBER), MIDDLE + 3 * SECOND_US)
    assert salt.clock_doubt is not None
    assert store.ensured == 1, "nothing is asked for"


async def test_what_expired_by_such_a_jump_is_put_back(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    await salt.get()
    store.contradicted, store.lost = True, True
    store.set_clock(MIDDLE + 40 * DAY_US)
    await salt.keep_fresh(Pauses(clock, 2))
    store.contradicted, store.outcome = False, Outcome.RESTORED
    store.set_clock(MIDDLE + 2 * SECOND_US)
    await salt.keep_fresh(Pauses(clock, 1))
    assert store.offered == [None, salt_of(NOVEMBER)]
    assert salt.clock_doubt is None


async def test_what_is_lost_with_the_record_of_it_is_put_back(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    """FLUSHALL, or a server that came back empty."""
    await salt.get()
    store.lost, store.recorded = True, None
    await salt.keep_fresh(Pauses(clock, 1))
    assert store.offered == [None, salt_of(NOVEMBER)]


async def test_what_was_deleted_is_not_put_back(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    """By hand, or for it had leaked: the record of it is still there."""
    await salt.get()
    store.lost = True
    await salt.keep_fresh(Pauses(clock, 1))
    assert store.offered == [None, None]


async def test_a_jump_that_others_confirm_is_followed(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    """A machine that slept for weeks: the month is over, whatever its steady clock says."""
    await salt.get()
    store.set_clock(ENDS + 10 * DAY_US)
    store.recorded = DECEMBER
    await salt.keep_fresh(Pauses(clock, 1))
    found = salt.now()
    assert found is not None
    assert found[0] == salt_of(DECEMBER)


async def test_a_month_that_others_have_agreed_upon_is_followed(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    """A collector whose own clock is wrong goes with everybody else."""
    await salt.get()
    store.contradicted = True
    store.set_clock(ENDS + 10 * DAY_US)
    store.recorded = DECEMBER
    await salt.keep_fresh(Pauses(clock, 1))
    found = salt.now()
    assert found is not None
    assert found[0] == salt_of(DECEMBER)


async def test_no_salt_is_served_that_is_of_a_month_too_far_ahead(
    salt: MonthlySalt, clock: Clock, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flusher would make no row of it: the server was ahead, and came back."""
    monkeypatch.setattr("salt.month._DISAGREE_SECONDS", 0.0)
    store.set_clock(ENDS + 40 * DAY_US)
    store.in_force = month_at(store.clock_us, UTC)
    await salt.get()
    store.set_clock(MIDDLE)
    store.refusing = True
    await salt.keep_fresh(Pauses(clock, 1))
    assert salt.now() is None
    with pytest.raises(ClocksDisagree):
        await salt.get()


async def test_a_new_month_that_is_refused_is_asked_for_again(
    salt: MonthlySalt, store: Store
) -> None:
    """Another process, whose clock is right, makes its salt within a moment."""
    store.refusing = True
    getting = asyncio.create_task(salt.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    store.refusing = False
    assert await getting == (salt_of(NOVEMBER), MIDDLE)


async def test_another_calendar_than_rotations_is_told(
    salt: MonthlySalt, clock: Clock, store: Store
) -> None:
    await salt.get()
    assert salt.calendar_doubt is None
    store.other_calendar = True
    await salt.keep_fresh(Pauses(clock, 1))
    assert salt.calendar_doubt is not None
