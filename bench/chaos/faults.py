"""Random faults of the running system, each repaired again: kills, freezes, stops, lost groups."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import redis

from bench.chaos.balance import Balance, Unbalanced
from bench.speed.ours import Ours
from contract import keys
from contract.settings import STREAM_SHARDS
from embedded.server_process import ServerProcess
from embedded.system import Program

CLAIM_SECONDS = 4
# A part is away or frozen for at most this time.
_AWAY_SECONDS = 2.0 * CLAIM_SECONDS
_SAMPLE_SECONDS = 1.0

_Fault = tuple[str, Callable[[], Awaitable[None]]]


@dataclass
class Faults:
    """The system, and the faults that were made in it."""

    ours: Ours
    dice: random.Random
    balance: Balance
    done: Counter[str] = field(default_factory=Counter)
    ended_by_itself: list[str] = field(default_factory=list)
    unbalanced: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return sum(count for name, count in self.done.items() if name.startswith("kill"))

    async def fault(self) -> None:
        """One fault, or two at once; they are over when this returns."""
        programs, servers = self.ours.system.programs, (*self.ours.redis, self.ours.postgres)
        kills: list[_Fault] = [
            *((f"kill {each.module}", partial(self._kill, each)) for each in programs),
            *((f"kill {each.name}", partial(self._kill_server, each)) for each in servers),
        ]
        faults: list[_Fault] = [
            *kills,
            *kills,  # twice as often as the others
            *((f"freeze {each.module}", partial(self._freeze, each)) for each in programs),
            *((f"freeze {each.name}", partial(self._freeze, each)) for each in servers),
            *((f"stop {each.module}", partial(self._stop, each)) for each in programs),
            ("destroy a consumer group", self._destroy_group),
        ]
        one, two = self.dice.sample(faults, 2)
        chosen = [one]
        # Never two on one part: a killed process can't be frozen.
        if self.dice.random() < 0.3 and one[0].split()[-1] != two[0].split()[-1]:
            chosen.append(two)
        for name, _ in chosen:
            self.done[name] += 1
        await asyncio.gather(*(fault() for _, fault in chosen))

    async def restart_what_ended_by_itself(self) -> None:
        """As a supervisor would. But no fault may end another process: the run has failed."""
        for program in self.ours.system.programs:
            if program.running.poll() is not None:
                self.ended_by_itself.append(f"{program.module}: {program.log[-1500:]}")
                await self.balance.gone(program)
                program.start()

    async def keep_looking(self) -> None:
        """Reads the processes' metrics."""
        while True:
            await asyncio.gather(*map(self._look, self.ours.system.programs))
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def _look(self, program: Program) -> None:
        try:
            await self.balance.look(program)
        except Unbalanced as unbalanced:
            self.unbalanced.append(str(unbalanced))

    def _away(self) -> float:
        return self.dice.uniform(0, _AWAY_SECONDS) * self.dice.random()

    async def _kill(self, program: Program) -> None:
        await self._look(program)
        program.kill()
        await self.balance.gone(program)
        await asyncio.sleep(self._away())
        program.start()

    async def _stop(self, program: Program) -> None:
        await self._look(program)
        await program.stop()
        await self.balance.gone(program)
        program.start()

    async def _freeze(self, part: Program | ServerProcess) -> None:
        part.freeze()
        await asyncio.sleep(self.dice.uniform(0, _AWAY_SECONDS))
        part.thaw()

    async def _kill_server(self, server: ServerProcess) -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(self._away())
        await asyncio.to_thread(server.start)

    async def _destroy_group(self) -> None:
        shard = self.dice.randrange(STREAM_SHARDS.read({}))
        with suppress(redis.RedisError), redis.Redis(port=self.ours.redis[0].port) as client:
            client.xgroup_destroy(keys.stream(shard), keys.GROUP)
