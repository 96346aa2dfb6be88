"""Which servers have, or have had, the salt in their files: its server and replicas, over time.

After a failover, or after the salt's slot moved to another node, the earlier servers still have the
salt on their disks.
"""

from enum import StrEnum
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contract import keys
from runtime.cluster import server_name
from runtime.periodic import Interval
from runtime.redis_client import Address, as_retry
from salt.client import SaltServer
from salt.term import microseconds

_CHECK_SECONDS = 60.0


class _Known(StrEnum):
    HELD = "held"
    UNVERIFIED = "unverified"  # it did not answer when a salt was destroyed


class SaltHolders:
    """The record of these servers (the holders), which is stored on the salt's server."""

    def __init__(self, server: SaltServer) -> None:
        self._redis = server.redis
        self._connect_to = server.connect_to
        self._checking = Interval(_CHECK_SECONDS)

    async def note(self) -> None:
        """Records which servers have the salt now; call it repeatedly.

        If a server did not answer when a salt was destroyed, and answers now, a disposal becomes
        due.

        Raises:
            Retry: Redis does not answer.
        """
        with as_retry("recording which servers have the salt"):
            for holder in await self._present():
                await self._redis.hsetnx(keys.SALT_HOLDERS, holder, _Known.HELD)
            if self._checking.ended():
                await self._check_unverified()

    async def former(self) -> list[Address]:
        """Holders that are neither the salt's server nor one of its replicas now."""
        present = await self._present()
        return [_parse(holder) for holder in await self._read() if holder not in present]

    async def disposed(self, unverified: list[str]) -> None:
        """Replaces the record: only these servers may still have an earlier salt."""
        holders = dict.fromkeys(await self._present(), _Known.HELD)
        holders |= dict.fromkeys(unverified, _Known.UNVERIFIED)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(keys.SALT_HOLDERS)
            for holder, known in holders.items():
                pipeline.hset(keys.SALT_HOLDERS, holder, known)
            await pipeline.execute()

    async def _present(self) -> list[str]:
        return [server_name(self._redis), *map(str, await replicas(self._redis))]

    async def _read(self) -> dict[str, _Known]:
        found: Any = await self._redis.hgetall(keys.SALT_HOLDERS)
        return {holder.decode(): _Known(known.decode()) for holder, known in found.items()}

    async def _check_unverified(self) -> None:
        for holder, known in (await self._read()).items():
            if known is _Known.UNVERIFIED and await self._answers(_parse(holder)):
                now_ms = microseconds(await self._redis.time()) // 1000
                await self._redis.hset(keys.SALT_HOLDERS, holder, _Known.HELD)
                await self._redis.set(keys.DISPOSAL_DUE, now_ms, nx=True)

    async def _answers(self, holder: Address) -> bool:
        async with self._connect_to(*holder) as server:
            try:
                await server.ping()
            except RedisError:
                return False
        return True


async def replicas(server: Redis) -> list[Address]:
    """The replicas that a server has now."""
    info = await server.info("replication")
    found = [value for key, value in info.items() if key.startswith("slave") and key[5:].isdigit()]
    return [Address(replica["ip"], int(replica["port"])) for replica in found]


def _parse(holder: str) -> Address:
    if holder.startswith("/"):
        return Address(holder, 0)
    host, _, port = holder.rpartition(":")
    return Address(host.strip("[]"), int(port))
