"""Connects to the salt's server, as the settings say."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from redis.asyncio import Redis

from contract import keys, settings
from contract.setting import Environment
from runtime.cluster import Cluster
from runtime.redis_client import connect_peer, connect_redis


@dataclass(frozen=True, slots=True)
class SaltServer:
    """The salt's server.

    Attributes:
        redis: its client. In a cluster it follows the node that has the salt's slot.
        is_streams: whether the streams are on the same server.
        connect_to: makes a client of another server, by host and port, with the same credentials.
            The caller closes it.
    """

    redis: Redis
    is_streams: bool
    connect_to: Callable[[str, int], Redis]


@asynccontextmanager
async def connect_salt(environment: Environment) -> AsyncIterator[SaltServer]:
    """The salt's server that the settings name, connected until the end of the block.

    Raises:
        Misconfigured: a setting is missing or wrong.
    """
    url = settings.SALT_REDIS_URL.read(environment)
    if not url and settings.REDIS_CLUSTER.read(environment):
        cluster = Cluster(settings.REDIS_URL.read(environment))
        async with aclosing(cluster), cluster.following(keys.CURRENT_SALT) as redis:
            yield SaltServer(redis, True, cluster.connect_to)
        return
    setting = settings.SALT_REDIS_URL if url else settings.REDIS_URL
    url = setting.read(environment)
    async with connect_redis(url, setting.name) as redis:
        yield SaltServer(redis, setting is settings.REDIS_URL, partial(connect_peer, url))
