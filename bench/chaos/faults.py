"""Faults of the running system at random, each ended again: kills, freezes, stops, lost groups."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psutil  # type: ignore[import-untyped]  # it ships no types
import redis

from bench.chaos.balance import Balance, Unbalanced
from contract import keys
from contract.calendar import SECOND_US
from contract.settings import STREAM_SHARDS
from embedded.postgres import PostgresServer
from embedded.server_process import ServerProcess
from embedded.system import Program, System
from embedded.valkey import ValkeyServer
from runtime.clock import wall_clock

CLAIM_SECONDS = 4
# Each part is away or frozen for at most so long.
_AWAY_SECONDS = 2.0 * CLAIM_SECONDS
_SAMPLE_SECONDS = 1.0
_UNTIL_WARM_SECONDS = 30.0


@dataclass(slots=True)
class Memory:
    """Resident memory of one kind of process, in MiB, over all that ran."""

    first: float = 0.0
    most: float = 0.0
    last: float = 0.0

    def sample(self, mib: float) -> None:
        self.first = self.first or mib
        self.most = max(self.most, mib)
        self.last = mib


@dataclass
class Faults:
    """The system, and everything that is done to it."""

    system: System
    valkey: ValkeyServer
    postgres: PostgresServer
    dice: random.Random
    balance: Balance
    done: Counter[str] = field(default_factory=Counter)
    memory: dict[str, Memory] = field(default_factory=dict)
    ended_by_itself: list[str] = field(default_factory=list)
    unbalanced: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return sum(count for name, count in self.done.items() if name.startswith("kill"))

    async def fault(self) -> None:
        """One fault, or two at once, ended again when this returns."""
        faults: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            *((f"kill {p.module}", lambda p=p: self._kill(p)) for p in self.system.programs),
            *((f"kill {p.module}", lambda p=p: self._kill(p)) for p in self.system.programs),
            *((f"freeze {p.module}", lambda p=p: self._freeze(p)) for p in self.system.programs),
            *((f"stop {p.module}", lambda p=p: self._stop(p)) for p in self.system.programs),
            ("kill Valkey", lambda: self._kill_server(self.valkey)),
            ("kill Valkey", lambda: self._kill_server(self.valkey)),
            ("freeze Valkey", lambda: self._freeze_server(self.valkey)),
            ("kill PostgreSQL", lambda: self._kill_server(self.postgres)),
            ("kill PostgreSQL", lambda: self._kill_server(self.postgres)),
            ("freeze PostgreSQL", lambda: self._freeze_server(self.postgres)),
            ("destroy a consumer group", self._destroy_group),
        ]
        one, two = self.dice.sample(faults, 2)
        chosen = [one]
        # Never two on one part: what is killed can't be frozen.
        if self.dice.random() < 0.3 and one[0].split()[-1] != two[0].split()[-1]:
            chosen.append(two)
        for name, _ in chosen:
            self.done[name] += 1
        await asyncio.gather(*(fault() for _, fault in chosen))

    async def restart_what_ended_by_itself(self) -> None:
        """As a supervisor would; but no fault may end a process, so that the run has failed."""
        for program in self.system.programs:
            if program.running.poll() is not None:
                self.ended_by_itself.append(f"{program.module}: {program.log[-1500:]}")
                await self.balance.gone(program)
                program.start()

    async def keep_looking(self) -> None:
        """Takes down what the processes have counted, and their resident memory once warm."""
        while True:
            await asyncio.gather(*(self._look(program) for program in self.system.programs))
            for program in self.system.programs:
                with suppress(psutil.Error, RuntimeError):
                    process = psutil.Process(program.running.pid)
                    if wall_clock() / SECOND_US - process.create_time() > _UNTIL_WARM_SECONDS:
                        mib = process.memory_info().rss / 2**20
                        self.memory.setdefault(program.module, Memory()).sample(mib)
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def _look(self, program: Program) -> None:
        try:
            await self.balance.look(program)
        except Unbalanced as unbalanced:
            self.unbalanced.append(str(unbalanced))

    def _away(self) -> float:
        return self.dice.uniform(0, _AWAY_SECONDS) * self.dice.random()

    async def _kill(self, program: Program) -> None:
        away = self._away()
        await self._look(program)
        program.kill()
        await self.balance.gone(program)
        await asyncio.sleep(away)
        program.start()

    async def _stop(self, program: Program) -> None:
        await self._look(program)
        await program.stop()
        await self.balance.gone(program)
        program.start()

    async def _freeze(self, program: Program) -> None:
        away = self.dice.uniform(0, _AWAY_SECONDS)
        program.freeze()
        await asyncio.sleep(away)
        program.thaw()

    async def _kill_server(self, server: ServerProcess) -> None:
        away = self._away()
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(away)
        await asyncio.to_thread(server.start)

    async def _freeze_server(self, server: ServerProcess) -> None:
        away = self.dice.uniform(0, _AWAY_SECONDS)
        server.freeze()
        await asyncio.sleep(away)
        server.thaw()

    async def _destroy_group(self) -> None:
        shard = self.dice.randrange(STREAM_SHARDS.read({}))
        with suppress(redis.RedisError), redis.Redis(port=self.valkey.port) as client:
            client.xgroup_destroy(keys.stream(shard), keys.GROUP)
