"""Which servers have, or have had, the salt in their files: its server and replicas, over time.

After a failover, or after its slot moved to another node, the earlier servers still have the salt
on their disks.
"""

from enum import StrEnum
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contract import keys
from runtime.periodic import Interval
from runtime.redis_client import Address, retry_for, server_name
from salt.client import SaltServer

_LOOK_SECONDS = 60.0


class _Known(StrEnum):
    HELD = "held"
    UNVERIFIED = "unverified"  # a salt was destroyed, and it did not answer


class SaltHolders:
    """The record of these servers (the holders), which is stored on the salt's server."""

    def __init__(self, server: SaltServer) -> None:
        self._redis = server.redis
        self._connect_to = server.connect_to
        self._looking = Interval(_LOOK_SECONDS)

    async def note(self) -> None:
        """Records which servers have the salt now; call it repeatedly.

        If a server could not be checked after a salt was destroyed, and answers again, a disposal
        becomes due.

        Raises:
            Retry: Redis does not answer.
        """
        try:
            for holder in [server_name(self._redis), *map(str, await replicas(self._redis))]:
                await self._redis.hsetnx(keys.SALT_HOLDERS, holder, _Known.HELD)
            if self._looking.ended():
                await self._look_for_the_unverified()
        except RedisError as error:
            raise retry_for(error, "noting who holds the salt") from None

    async def former(self) -> list[Address]:
        """The former holders: neither the salt's server nor one of its replicas now."""
        now = {server_name(self._redis), *map(str, await replicas(self._redis))}
        return [_parse(holder) for holder in await self._read() if holder not in now]

    async def disposed(self, unverified: list[str]) -> None:
        """Replaces the record: only these servers may still have an earlier salt."""
        now = [server_name(self._redis), *map(str, await replicas(self._redis))]
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(keys.SALT_HOLDERS)
            for holder in now:
                pipeline.hset(keys.SALT_HOLDERS, holder, _Known.HELD)
            for holder in unverified:
                pipeline.hset(keys.SALT_HOLDERS, holder, _Known.UNVERIFIED)
            await pipeline.execute()

    async def _read(self) -> dict[str, _Known]:
        found: Any = await self._redis.hgetall(keys.SALT_HOLDERS)
        return {holder.decode(): _Known(known.decode()) for holder, known in found.items()}

    async def _look_for_the_unverified(self) -> None:
        for holder, known in (await self._read()).items():
            if known is _Known.UNVERIFIED and await self._answers(_parse(holder)):
                seconds, microseconds = await self._redis.time()
                now_ms = seconds * 1000 + microseconds // 1000
                await self._redis.hset(keys.SALT_HOLDERS, holder, _Known.HELD)
                await self._redis.set(keys.DISPOSAL_DUE, now_ms, nx=True)

    async def _answers(self, holder: Address) -> bool:
        client = self._connect_to(*holder)
        try:
            await client.ping()
        except RedisError:
            return False
        finally:
            await client.aclose()
        return True


async def replicas(server: Redis) -> list[Address]:
    """The replicas that a server has now."""
    info = await server.info("replication")
    found = [value for key, value in info.items() if key.startswith("slave") and key[5:].isdigit()]
    return [Address(replica["ip"], int(replica["port"])) for replica in found]


def _parse(holder: str) -> Address:
    host, _, port = holder.rpartition(":")
    return Address(host.strip("[]"), int(port))
