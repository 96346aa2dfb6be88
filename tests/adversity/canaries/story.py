"""What happens: requests at the best of times, in trouble, and while everything stops."""

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from contract import keys
from contract.calendar import Month
from contract.identity import SALT_BYTES
from contract.record import SITE_MAX_BYTES, SessionStarted, encode
from tests.adversity.canaries import faulty_collector
from tests.adversity.canaries.markers import Canaries, random_stem
from tests.adversity.canaries.stage import DEAD_LETTERS, STREAM, Stage
from tests.adversity.canaries.traffic import JSON, SITE, UPGRADE, FrontEnd, ask, whole
from tests.system import Program, eventually, find_free_port, until

REFUSED_SITE: Final = "refused.example.org"  # PostgreSQL refuses its sessions
STATUSES: Final = {201, 202, 204, 400, 401, 403, 404, 405, 413, 415, 431}


def _made_up_salt() -> bytes:
    return secrets.token_bytes(SALT_BYTES).replace(b"\0", b"\1")  # Redis's log ends at a NUL


@dataclass
class Story:
    """The acts, in their order (`play`). Each asserts that its trouble did happen."""

    stage: Stage
    canaries: Canaries
    front_end: FrontEnd
    salt: bytes
    collectors: list[Program]  # the last one is faulty
    flushers: list[Program]
    poison: str = field(default_factory=random_stem)  # is in records that no collector makes
    planted_marker: bytes = field(default_factory=lambda: random_stem().encode())
    planted_salt: bytes = field(default_factory=_made_up_salt)

    @property
    def ports(self) -> list[int]:
        return [int(collector.environment["PORT"]) for collector in self.collectors]

    async def play(self) -> None:
        await self.requests_of_every_kind()
        await self.faults_that_quote_requests()
        await self.entries_that_are_set_aside()
        await self.stage.keep_pages("after requests")
        await self.stage.keep_slow_log("after requests")
        await self.redis_is_full()
        await self.postgres_is_killed_in_a_flush()
        await self.redis_freezes_and_is_killed()
        await self.stage.keep_pages("at the end")
        await self.stage.keep_slow_log("at the end")
        await self.stage.keep_dead_letters("at the end")
        for command in (
            ("flusher", "status"),
            ("flusher", "dead", "list"),
            ("rotation", "status", "--json"),
        ):
            await self.stage.run(*command)
        self.stage.keep_processes()
        await self.all_stop_while_requests_wait()
        await self.stage.write_files()
        await self.stage.plant(self.planted_marker + self.planted_salt + self.planted_marker)

    async def requests_of_every_kind(self) -> None:
        """To the collectors, and to the admin pages."""
        admin = [int(program.environment["ADMIN_PORT"]) for program in self.stage.system.programs]
        await asyncio.gather(*map(self.front_end.send_everything, (*self.ports, *admin)))
        statuses = self.front_end.statuses
        assert set(statuses) >= STATUSES
        assert 500 not in statuses
        assert statuses.count(201) > 100
        rows = "SELECT count(*) FROM sessions WHERE site = $1"
        await eventually(lambda: self.stage.sql(rows, SITE), lambda count: count > 100)

    async def faults_that_quote_requests(self) -> None:
        faulty, port, statuses = self.collectors[-1], self.ports[-1], self.front_end.statuses
        await self.front_end.send_everything(port, faulty_collector.LOOPS_SITE)
        assert "library=asyncio" in faulty.log
        for site in faulty_collector.STEPS_SITES:
            failed = statuses.count(500)
            await self.front_end.send_everything(port, site)
            assert statuses.count(500) > failed, site
        body = f'{{"{self.canaries("fault")}":"{faulty_collector.IN_A_BODY}"}}'
        assert await self.front_end.send(port, ask(body.encode(), Content_Type=JSON)) == 500
        assert "this is a fault in the collector" in faulty.log

    async def entries_that_are_set_aside(self) -> None:
        """Those that can't be decoded, and those that PostgreSQL refuses."""
        refuse = "ALTER TABLE sessions ADD CONSTRAINT refused CHECK (site <> '{}')"
        await self.stage.sql(refuse.format(REFUSED_SITE))
        broken = broken_records(self.poison)
        for record in broken:
            fields: Any = {"e": record, self.poison: "1"}
            await self.stage.client.xadd(STREAM, fields)
        for site in (REFUSED_SITE, SITE) * 3:
            assert await self.front_end.send(self.ports[0], site=site) == 201
        dead = len(broken) + 3
        await eventually(lambda: self.stage.client.xlen(DEAD_LETTERS), lambda found: found == dead)
        await self.stream_is_empty()

    async def redis_is_full(self) -> None:
        await self.stage.client.config_set("maxmemory", 1)
        assert await self.front_end.send(self.ports[0]) == 503
        await self.stage.keep_pages("while Redis is full")
        await self.stage.client.config_set("maxmemory", 0)
        await self.works_again()

    async def postgres_is_killed_in_a_flush(self) -> None:
        """A copy is kept of Redis's file with the sessions that are no rows yet."""
        self.stage.postgres.freeze()
        sent = [self.front_end.send(port) for port in self.ports for _ in range(10)]
        assert set(await asyncio.gather(*sent)) == {201}
        await eventually(
            lambda: self.stage.client.xpending(STREAM, keys.GROUP), lambda seen: seen["pending"] > 0
        )
        await self.stage.save()
        held = (self.stage.redis.data_dir / "dump.rdb").read_bytes()
        assert SITE.encode() in held
        self.stage.keep("redis/held.rdb", held)
        self.stage.postgres.kill()
        await until(lambda: any("PostgreSQL" in flusher.log for flusher in self.flushers))

    async def redis_freezes_and_is_killed(self) -> None:
        self.stage.redis.freeze()
        assert await self.statuses_in_an_outage() == {503}
        await self.stage.keep_pages("while Redis is frozen")
        self.stage.redis.kill()
        assert await self.statuses_in_an_outage() == {503}
        self.stage.redis.start()
        self.stage.postgres.start()
        await self.works_again()

    async def statuses_in_an_outage(self) -> set[int]:
        """The answers to those who wait. Others leave at once."""
        c, send = self.canaries, self.front_end.send
        bearer = f"Bearer {c.token()}"
        asked = (
            ask(Authorization=bearer),
            ask(path=UPGRADE, method="PATCH", Authorization=bearer),
            ask(b'{"%s":1}' % c("body").encode(), Content_Type=JSON),
        )
        for port in self.ports:
            await self.front_end.send_bytes(port, *whole(c), leaves=True)
        return set(
            await asyncio.gather(*(send(port, each) for port in self.ports for each in asked))
        )

    async def all_stop_while_requests_wait(self) -> None:
        """The collectors answer them before they end. Then the other processes stop."""
        began = await self.writes()
        self.stage.redis.freeze()
        waiting = asyncio.gather(*map(self.front_end.send, self.ports))
        await eventually(
            self.writes, lambda now: all(b > a for a, b in zip(began, now, strict=True))
        )
        for collector in self.collectors:
            collector.running.terminate()
        await until(lambda: all("stopping:" in each.log for each in self.collectors))
        self.stage.redis.thaw()
        assert set(await waiting) == {201}
        for collector in self.collectors:
            assert await collector.exit_code() == 0, collector.log
        await self.stream_is_empty()
        for program in self.stage.system.programs:
            if program.running.poll() is None:
                assert await program.stop() == 0, program.log

    async def writes(self) -> list[float]:
        """How many writes to Redis each collector has begun."""
        of_all = await asyncio.gather(*(collector.metrics() for collector in self.collectors))
        return [metrics["impact_append_batch_size_count"] for metrics in of_all]

    async def works_again(self) -> None:
        async def statuses() -> set[int]:
            return set(await asyncio.gather(*map(self.front_end.send, self.ports)))

        await eventually(statuses, lambda seen: seen == {201})
        for program in self.stage.system.programs:
            await program.ready()
        await self.stream_is_empty()

    async def stream_is_empty(self) -> None:
        await eventually(lambda: self.stage.client.xlen(STREAM), lambda entries: entries == 0)


def broken_records(poison: str) -> list[bytes]:
    """Records that are none, or that no collector can have made.

    The sites of those that can be decoded are no markers: PostgreSQL stores them, for the view
    `data_quality`.
    """

    def record(month: Month, site: str, role: str) -> bytes:
        return encode(SessionStarted(secrets.token_bytes(16), month, 1, site, bytes(16), role))

    mark, good = poison.encode(), record(Month(2024, 2), SITE, "user")
    return [
        mark,
        b"\x01" + mark,
        b"\x07" + mark,
        good[:1] + b"\x09" + good[2:] + mark,
        good + mark,
        good[:44] + b"\x20\xff" + mark,
        record(Month(2099, 1), SITE, poison),
        record(Month(2024, 2), SITE, poison),
        record(Month(2024, 2), "x" * SITE_MAX_BYTES, poison),
    ]


async def play(stage: Stage, canaries: Canaries) -> Story:
    """Starts the processes, and plays the story; returns it afterwards."""
    async with stage.watched(), aiohttp.ClientSession(skip_auto_headers=["User-Agent"]) as http:
        story = await begin(stage, canaries, FrontEnd(canaries, http))
        await story.play()
        return story


async def begin(stage: Stage, canaries: Canaries, front_end: FrontEnd) -> Story:
    """Starts the processes, with text logs, and with JSON and all that Python can say."""
    await stage.run("flusher", "migrate")
    # By the command: a process that has made a salt restarts soon, and is away for a moment.
    await stage.run("rotation", "rotate")
    await stage.system.start("rotation")
    await eventually(lambda: stage.client.exists(keys.DISPOSAL_DUE), lambda due: not due)
    program = stage.system.program
    talkative = {"LOG_FORMAT": "json", "PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"}
    collectors = [
        program("collector", PORT=str(find_free_port())),
        program("collector", PORT=str(find_free_port()), **talkative),
        program(faulty_collector.__name__, PORT=str(find_free_port())),
    ]
    flushers = [program("flusher"), program("flusher", **talkative)]
    await asyncio.gather(*(each.start().ready() for each in (*collectors, *flushers)))
    month: Any = await stage.client.get(keys.CURRENT_SALT)
    salt: Any = await stage.client.get(keys.salt(Month.parse(month.decode())))
    assert len(salt) == SALT_BYTES
    return Story(stage, canaries, front_end, salt, collectors, flushers)
