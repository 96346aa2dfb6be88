"""Processes and servers whose clock is another: all shifted by one offset, or some by more."""

import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from zoneinfo import ZoneInfo

import jwt

from bench.load.client import Connection, NoAnswer, Unreachable
from bench.load.sent_log import SentLog, Who
from contract.calendar import DAY_US, SECOND_US, Month, month_at
from contract.identity import Hasher
from embedded.valkey import ValkeyServer
from runtime.clock import wall_clock
from tests.moved_clock import movable_environment, move_clock, moved_environment
from tests.system import JWT_KEY, ROOT, Program, System, eventually

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where libfaketime keeps its own
_CORES = 2  # what a small machine has
_ATTEMPTS = 3
_USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@dataclass(frozen=True, slots=True)
class ShiftedClock:
    """The system's clock and so many seconds."""

    offset_seconds: float

    @classmethod
    def before(cls, instant_us: int, seconds: float) -> "ShiftedClock":
        """A clock that shows an instant so many seconds from now."""
        return cls(round((instant_us - wall_clock()) / SECOND_US - seconds, 3))

    def now_us(self) -> int:
        return wall_clock() + round(self.offset_seconds * SECOND_US)

    def environment(self, ahead_seconds: float = 0.0) -> dict[str, str]:
        """What gives a process this clock; or one that is ahead of it, or behind (negative)."""
        return moved_environment(self.offset_seconds + ahead_seconds)

    async def reaches(self, instant_us: int) -> None:
        """Waits until it shows an instant."""

        async def left_us() -> int:
            return instant_us - self.now_us()

        seconds = (instant_us - self.now_us()) / SECOND_US
        await eventually(left_us, lambda left: left <= 0, max(seconds, 0) + 1)


class ShiftedValkey(ValkeyServer):
    """A Valkey with a shifted clock, which can be moved further while it runs."""

    def __init__(
        self, data_dir: Path, clock: ShiftedClock, *, config: Mapping[str, str] | None = None
    ) -> None:
        self._clock = clock
        self._clock_file = data_dir.with_name(f"{data_dir.name}-clock")
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        self.move_clock(0)
        super().__init__(data_dir, config=config, env=movable_environment(self._clock_file))
        self.pids: list[int] = []

    def _environment(self) -> dict[str, str]:
        # Where the whole suite's clock is moved, that would go before the file.
        return {name: value for name, value in super()._environment().items() if name != "FAKETIME"}

    def move_clock(self, seconds: float) -> None:
        """Sets its clock so many seconds ahead of the shifted one (negative: behind)."""
        move_clock(self._clock_file, self._clock.offset_seconds + seconds)

    def _spawn(self, command: Iterable[str], lock: int) -> subprocess.Popen[bytes]:
        process = super()._spawn(list(command), lock)
        self.pids.append(process.pid)
        return process


@contextmanager
def shifted_system(
    folder: Path,
    clock: ShiftedClock,
    zone: ZoneInfo,
    *,
    database_url: str = "",
    config: Mapping[str, str] | None = None,
) -> Iterator[tuple[System, ShiftedValkey]]:
    """A system with a Valkey of its own, all on one clock. All of it is gone at the end."""
    server = ShiftedValkey(folder / "valkey", clock, config=config)
    pids = server.pids
    try:
        with server:
            extra = {**clock.environment(), "CALENDAR_TIMEZONE": zone.key}
            system = System(server.url, database_url, folder / "logs", extra)
            try:
                with system:
                    yield system, server
            finally:
                pids += [program.process.pid for program in system.programs if program.process]
    finally:
        _remove_leftovers(pids)


def _remove_leftovers(pids: Iterable[int]) -> None:
    """What libfaketime leaves behind of processes that were killed."""
    for pid in pids:
        for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
            (_SHARED_MEMORY / name).unlink(missing_ok=True)


def next_month(zone: ZoneInfo, number: int | None = None) -> Month:
    """The month to be moved into the end of: this one or, with its number, the next such one.

    Never one that ends within a day, so that clocks are only ever moved forwards.
    """
    now_us = wall_clock()
    month = month_at(now_us + DAY_US, zone)
    while number not in (None, month.number):
        month = month.plus(1)
    return month


@asynccontextmanager
async def system_before(
    folder: Path,
    zone: ZoneInfo,
    instant_us: int,
    *,
    seconds: float,
    start: Callable[[System, ShiftedClock], Awaitable[list[Program]]],
    processes: int,
    database_url: str = "",
) -> AsyncIterator[tuple[System, ShiftedValkey, ShiftedClock, list[Program]]]:
    """A system that has started when its clock shows an instant to come in `seconds` or a bit more.

    Where the machine was slower than was thought, all of it is started again, with more time.

    Args:
        folder: for the server's data and the logs.
        zone: whose calendar months count.
        instant_us: what its clock comes to.
        seconds: how long before that it has started, at the least.
        start: starts its processes and waits until they are ready.
        processes: about how many those are.
        database_url: of all processes.
    """
    allowed = _seconds_to_start(processes)
    for attempt in range(_ATTEMPTS):
        began = time.monotonic()
        clock = ShiftedClock.before(instant_us, allowed + seconds)
        place = folder / f"start-{attempt}"
        with shifted_system(place, clock, zone, database_url=database_url) as (system, server):
            programs = await start(system, clock)
            took = time.monotonic() - began
            if took <= allowed:
                yield system, server, clock, programs
                return
        allowed = 2.0 * took
    raise AssertionError(f"{_ATTEMPTS} slow starts: the last took {took:.1f} s")


def _seconds_to_start(processes: int) -> float:
    """In how many seconds so many of our processes will have started, on this machine now."""
    began = time.monotonic()
    command = [sys.executable, "-m", "collector", "--help"]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    one = time.monotonic() - began
    return 2.0 + 2.0 * processes / _CORES * one


class Callers:
    """The same visitors and users again and again, who live by a shifted clock.

    A visitor of a number becomes, when signed in, the user of that number. What is sent and what is
    answered is in `sent_log`, by the shifted clock, and in `answers`, by status (None: no answer).
    """

    SITES = ("one.example.org", "another.example.org")

    def __init__(self, clock: ShiftedClock) -> None:
        self.sent_log = SentLog(self.SITES, self._role)
        self.answers: Counter[int | None] = Counter()
        self.longest_seconds = 0.0
        self._clock = clock

    async def start(
        self, connection: Connection, who: Who, person: int, site: int
    ) -> tuple[int, int | None]:
        """Starts a session; its number, and the answer's status."""
        number = self.sent_log.session(who, site, person, person, self._clock.now_us())
        self.sent_log.start_sent(number, self._clock.now_us())
        token = self._token(person) if who is Who.USER else ""
        body = f'{{"id": "{uuid.UUID(bytes=self.sent_log.id_of(number))}"}}'
        status = await self._ask(connection, "POST", "", number, token, body)
        self.sent_log.start_answered(number, status, self._clock.now_us())
        return number, status

    async def upgrade(self, connection: Connection, number: int) -> int | None:
        """Signs the visitor of a session in; the answer's status."""
        self.sent_log.upgrade_sent(number, self._clock.now_us())
        path = f"/{uuid.UUID(bytes=self.sent_log.id_of(number))}/upgrade"
        token = self._token(self.sent_log.user(number))
        status = await self._ask(connection, "PATCH", path, number, token, "")
        self.sent_log.upgrade_answered(number, status, self._clock.now_us())
        return status

    def hash_with(self, salt: bytes, number: int, *, as_user: bool) -> bytes:
        """The `monthly_user_hash` of a session, from scratch."""
        site = self.sent_log.site(number)
        if as_user:
            return Hasher(salt).user(site, f"user-{self.sent_log.user(number)}")
        network = IPv4Address(_address(self.sent_log.visitor(number))).packed
        return Hasher(salt).visitor(site, network, _USER_AGENT)

    @staticmethod
    def _role(person: int) -> str:
        return ("user", "admin", "super_admin")[person % 3]

    def _token(self, person: int) -> str:
        claims = {
            "sub": f"user-{person}",
            "highest_role": self._role(person),
            # Longer than the clock of a collector in these tests is wrong.
            "exp": (self._clock.now_us() + 2 * DAY_US) // SECOND_US,
        }
        return jwt.encode(claims, JWT_KEY)

    async def _ask(
        self, connection: Connection, method: str, path: str, number: int, token: str, body: str
    ) -> int | None:
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        request = (
            f"{method} /web_api/v1/sessions{path} HTTP/1.1\r\n"
            f"Host: collector\r\nOrigin: https://{self.sent_log.site(number)}\r\n"
            f"X-Forwarded-For: {_address(self.sent_log.visitor(number))}\r\n"
            f"User-Agent: {_USER_AGENT}\r\n{authorization}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )
        began = time.monotonic()
        try:
            await connection.ready()
            status = (await connection.exchange(request.encode())).status
        except (NoAnswer, Unreachable):
            status = None
        self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
        self.answers[status] += 1
        return status


def _address(person: int) -> str:
    return f"198.18.{person // 256}.{person % 256}"
