"""salt/month.py: each month has one salt, and no salt is used after its month."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.calendar import DAY_US, SECOND_US, Month, month_at
from contract.errors import Retry
from salt.month import REFRESH_SECONDS, MonthlySalt
from salt.store import SaltStore
from salt.term import Ensured, Observed, Outcome, Salt
from tests.unit.steady import Pauses

UTC = ZoneInfo("UTC")
NOVEMBER = Month(2026, 11)
DECEMBER = Month(2026, 12)
STARTS = NOVEMBER.starts_us(UTC)
ENDS = NOVEMBER.ends_us(UTC)
MIDDLE = STARTS + 10 * DAY_US


def salt_of(month: Month, made: int = 0) -> Salt:
    value = hashlib.sha256(f"{month} {made}".encode()).digest()
    return Salt(month, month.starts_us(UTC), month.ends_us(UTC), value)


class Server:
    """The salt's server, and the collector's monotonic clock, with which its own clock advances.
    Time passes only when a test says so.
    """

    def __init__(self, server_us: int = MIDDLE) -> None:
        self._steady_us = 123_456 * SECOND_US
        self.set_clock(server_us)
        self.made = 0
        self.ensured = 0
        self.away = False
        self.outcome = Outcome.UNCHANGED
        self.in_force: Month | None = None
        self.contradicted = False  # by other clocks, when its clock jumps
        self.recorded: Month | None = NOVEMBER
        self.gate: asyncio.Event | None = None
        self.on_question: Callable[[], None] = lambda: None
        self.on_reply: Callable[[], None] = lambda: None

    def salt(self, dropped: Callable[[], None] = lambda: None) -> MonthlySalt:
        """A collector's. Nothing is cached yet."""
        return MonthlySalt(cast(SaltStore, self), lambda: self._steady_us / SECOND_US, dropped)

    def go(self, us: int) -> None:
        self._steady_us += us

    def wait(self, seconds: float) -> None:
        self.go(round(seconds * SECOND_US))

    @property
    def clock_us(self) -> int:
        return self._steady_us + self._ahead_us

    def set_clock(self, server_us: int) -> None:
        self._ahead_us = server_us - self._steady_us

    async def ensure(self, *, held: Salt | None) -> Ensured:
        assert held in (None, salt_of(NOVEMBER))
        self.ensured += 1
        await self._pass()
        reply = Ensured(self.outcome, salt_of(self._month(), self.made), self.clock_us)
        self.on_reply()
        return reply

    async def is_contradicted(self, server_us: int) -> bool:
        assert server_us == self.clock_us
        return self.contradicted

    async def observe(self, month: Month) -> Observed:
        await self._pass()
        found = None if month != self._month() else salt_of(month, self.made)
        reply = Observed(found, self.clock_us, self.recorded, False)
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


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def held(server: Server) -> MonthlySalt:
    """November's salt is cached."""
    salt = server.salt()
    await salt.get()
    return salt


async def test_at_its_months_end_a_salt_is_neither_used_nor_kept(
    held: MonthlySalt, server: Server
) -> None:
    server.go(ENDS - MIDDLE - 1)
    assert held.now() == (salt_of(NOVEMBER), ENDS - 1)
    server.go(1)
    assert held.now() is None
    assert not held.is_current()
    assert held._salt is None
    server.go(-1)
    assert held.now() is None, "it can't come back"


# Sixty-fourths of a second, which a float represents exactly.
jumps = st.integers(0, 40 * 86_400 * 64).map(lambda number: number * SECOND_US // 64)


@given(st.integers(STARTS, ENDS - 1), st.lists(jumps, max_size=6))
def test_no_salt_is_used_outside_its_month(at: int, steps: list[int]) -> None:
    """The time that comes with it, a session's `created_at`, is in the same month."""

    async def story() -> None:
        server = Server(at)
        salt = server.salt()
        await salt.get()
        for step in steps:
            server.go(step)
            found, instant = salt.now() or await salt.get()
            assert found == salt_of(month_at(server.clock_us, UTC))
            assert found.starts_us <= instant < found.ends_us
            assert instant == server.clock_us

    asyncio.run(story())


async def test_requests_share_one_query_and_a_cancelled_one_does_not_cancel_it(
    server: Server,
) -> None:
    server.gate = asyncio.Event()
    salt = server.salt()
    cancelled, *waiting = [asyncio.create_task(salt.get()) for _ in range(100)]
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    server.gate.set()
    assert {value for value, _ in await asyncio.gather(*waiting)} == {salt_of(NOVEMBER)}
    assert cancelled.cancelled()
    assert server.ensured == 1


@pytest.mark.parametrize("us", [90 * SECOND_US, -3600 * SECOND_US], ids=["forward", "back"])
async def test_the_servers_clock_is_followed_within_a_month(
    held: MonthlySalt, server: Server, us: int
) -> None:
    """Our monotonic clock only measures how much time has passed."""
    server.set_clock(MIDDLE + us)
    await held.keep_fresh(Pauses(1, server.wait))
    server.go(SECOND_US)
    assert held.now() == (salt_of(NOVEMBER), server.clock_us)


@pytest.mark.parametrize(
    ("server_us", "changes", "expected"),
    [
        pytest.param(ENDS + SECOND_US, {}, salt_of(DECEMBER), id="its month ended"),
        pytest.param(MIDDLE, {"made": 1}, salt_of(NOVEMBER, 1), id="replaced"),
        # The clock of this collector is the wrong one.
        pytest.param(
            ENDS + 10 * DAY_US,
            {"recorded": DECEMBER, "contradicted": True},
            salt_of(DECEMBER),
            id="month that others recorded",
        ),
    ],
)
async def test_what_happens_to_the_salt_on_the_server_is_noticed(
    held: MonthlySalt, server: Server, server_us: int, changes: dict[str, object], expected: Salt
) -> None:
    server.set_clock(server_us)
    for name, value in changes.items():
        setattr(server, name, value)
    await held.keep_fresh(Pauses(2, server.wait))
    found, _ = await held.get()
    assert found == expected


async def test_a_server_whose_clock_was_set_back_keeps_the_later_month(server: Server) -> None:
    """Sessions get a time in that month. An earlier time would contradict the salt."""
    server.set_clock(ENDS - DAY_US)
    server.in_force, server.outcome = DECEMBER, Outcome.CLOCK_WENT_BACK
    assert await server.salt().get() == (salt_of(DECEMBER), ENDS)


async def test_without_requests_a_salt_is_dropped_at_its_months_end_and_that_is_reported(
    server: Server,
) -> None:
    """Also while the server is away. The arrival of the first salt is not reported."""
    reported: list[int] = []
    salt = server.salt(lambda: reported.append(server.clock_us))
    server.set_clock(ENDS - 2_500_000)
    await salt.get()
    server.away = True
    kept: list[tuple[bool, bool]] = []

    def wait(seconds: float) -> None:
        server.wait(seconds)
        kept.append((salt._salt is not None, server.clock_us < ENDS))

    pauses = Pauses(5, wait)
    await salt.keep_fresh(pauses)
    # This is noted after each pause and before the next round: the third pause ends with the month,
    # and the round after it drops the salt.
    assert kept == [(True, True), (True, True), (True, False), *[(False, False)] * 2]
    assert pauses.seconds == pytest.approx([1, 1, 0.5, REFRESH_SECONDS, REFRESH_SECONDS])
    assert reported == [ENDS]


@pytest.mark.parametrize("checking", [False, True])
async def test_a_slow_answer_does_not_prolong_the_month(server: Server, *, checking: bool) -> None:
    """The server's clock went on meanwhile."""
    server.set_clock(ENDS - 5 * SECOND_US)
    salt = server.salt()
    if checking:
        await salt.get()
    server.on_reply = lambda: server.go(2 * SECOND_US)
    await (salt.keep_fresh(Pauses(1, server.wait)) if checking else salt.get())
    server.on_reply = lambda: None
    server.go(ENDS - server.clock_us)
    assert salt.now() is None


def test_a_salts_value_is_not_printed() -> None:
    assert salt_of(NOVEMBER).value.hex() not in repr(salt_of(NOVEMBER))
    assert "value" not in repr(salt_of(NOVEMBER))


async def test_a_slow_answer_does_not_change_a_clock_that_is_known_better(
    held: MonthlySalt, server: Server
) -> None:
    """A frozen server answers late. Otherwise sessions would begin that much in the future."""
    server.on_question = lambda: server.go(4 * SECOND_US)
    await held._refresh()
    _, instant = await held.get()
    assert abs(instant - server.clock_us) < SECOND_US // 10


async def test_a_later_request_has_a_later_time_though_the_clock_was_ahead(server: Server) -> None:
    """On a busy machine one query takes 10 ms and the next one none, which shows it. Otherwise an
    upgrade of `current` took the session before the newest.
    """
    salt = server.salt()
    server.on_question = lambda: server.go(10_000)
    instants = [(await salt.get())[1]]
    server.on_question = lambda: None
    await salt._refresh()
    for _ in range(30):
        server.go(500)
        instants.append((await salt.get())[1])
    assert instants == sorted(set(instants))
    assert instants[-1] == server.clock_us, "it agrees with the server's as soon as it can"


async def test_after_a_slow_answer_the_clock_is_queried_again_at_once(server: Server) -> None:
    """Otherwise the sessions of a collector that starts on a busy machine began in the future for
    a second.
    """
    salt = server.salt()
    server.on_question = lambda: server.go(3 * SECOND_US)
    ahead_us: list[int] = []

    def wait(seconds: float) -> None:
        server.on_question = lambda: None
        server.wait(seconds)
        valid = salt.now()
        assert valid is not None
        ahead_us.append(valid[1] - server.clock_us)

    pauses = Pauses(2, wait)
    await salt.keep_fresh(pauses)
    assert pauses.seconds == pytest.approx([0.05, REFRESH_SECONDS])
    assert ahead_us == [3 * SECOND_US, 0]


@pytest.mark.parametrize("days", [-5, 40])
async def test_a_jump_that_other_clocks_contradict_is_not_followed(
    held: MonthlySalt, server: Server, days: int
) -> None:
    """The month's salt may have expired on the server. It stays in use, with our time."""
    server.contradicted = True
    server.set_clock(MIDDLE + days * DAY_US)
    await held.keep_fresh(Pauses(3, server.wait))
    assert held.now() == (salt_of(NOVEMBER), MIDDLE + 3 * SECOND_US)
    assert held.clock_doubt is not None
    assert server.ensured == 1, "no other salt is asked for"
