"""The stream shards' servers: each shard's commands go to the server that has the shard.

This takes one round trip to each server, for any number of shards.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from contract import keys, settings
from contract.setting import Environment
from runtime.cluster import Cluster, slot_of
from runtime.redis_client import Address, connect_redis
from runtime.redis_connection import Command, RedisConnection

# A shard may move again while we follow it.
_ROUNDS: Final = 5
_ASKING: Final[Command] = ("ASKING",)
_AWAY = (RedisConnectionError, RedisTimeoutError)


class OneServer:
    """The stream shards, all on one server. `count` is their number."""

    def __init__(self, redis: Redis, count: int) -> None:
        self.count = count
        self.redis = redis
        self._connection = RedisConnection(redis)

    async def ask(self, commands: Mapping[int, Sequence[Command]]) -> dict[int, list[Any]]:
        """Sends each shard's commands, in their order, to the server that has the shard.

        Returns:
            A reply for each command: a RedisError if the command was refused, or if the shard's
            server is away. In the second case it is unknown whether it was carried out.

        Raises:
            RedisError: no server answers.
        """
        return await _ask_server(self._connection, commands)

    async def servers(self) -> dict[int, Redis]:
        """A client of each server that has shards, by one of its shards.

        Raises:
            RedisError: the servers are not known.
        """
        return {0: self.redis}

    async def aclose(self) -> None:
        self._connection.close()
        await self.redis.aclose()


class ClusterShards:
    """The same, on the primaries of a cluster. It follows shards that move or fail over."""

    def __init__(self, cluster: Cluster, count: int) -> None:
        """This object closes `cluster`."""
        self.count = count
        self.cluster = cluster

    async def ask(self, commands: Mapping[int, Sequence[Command]]) -> dict[int, list[Any]]:
        done: dict[int, list[Any]] = {}
        left = dict(commands)
        importers: dict[int, Address] = {}  # the nodes to which shards are just moving
        for _ in range(_ROUNDS):
            await self.cluster.refresh()
            by_node: defaultdict[Address, dict[int, Sequence[Command]]] = defaultdict(dict)
            for shard, of_shard in left.items():
                if shard in importers:
                    by_node[importers[shard]][shard] = _with_asking(of_shard)
                elif node := self._owner(shard):
                    by_node[node][shard] = of_shard
                else:
                    self.cluster.doubt()
                    done[shard] = [RedisConnectionError("no node has the slot")] * len(of_shard)
            for answer in await asyncio.gather(*map(self._ask_node, by_node, by_node.values())):
                done |= answer
            elsewhere = {shard: error for shard in left if (error := _elsewhere(done[shard]))}
            importers = {
                shard: Address(error.host, int(error.port))
                for shard, error in elsewhere.items()
                if not isinstance(error, MovedError)  # then the cluster has learned it
            }
            left = {shard: left[shard] for shard in elsewhere}
            if not left:
                break
        for shard in left:
            done[shard] = [RedisConnectionError("the shard is moving")] * len(commands[shard])
        if done and all(isinstance(each, _AWAY) for replies in done.values() for each in replies):
            raise next(iter(done.values()))[0]
        return done

    async def servers(self) -> dict[int, Redis]:
        await self.cluster.refresh()
        by_owner = {self._owner(shard): shard for shard in range(self.count)}
        return {
            shard: self.cluster.client(owner)
            for owner, shard in by_owner.items()
            if owner is not None
        }

    async def aclose(self) -> None:
        await self.cluster.aclose()

    def _owner(self, shard: int) -> Address | None:
        return self.cluster.owner(slot_of(keys.stream(shard)))

    async def _ask_node(
        self, node: Address, commands: Mapping[int, Sequence[Command]]
    ) -> dict[int, list[Any]]:
        try:
            replies = await _ask_server(self.cluster.connection(node), commands)
        except RedisError as error:
            self.cluster.doubt()
            return {
                shard: [error for command in of_shard if command is not _ASKING]
                for shard, of_shard in commands.items()
            }
        for of_shard in replies.values():
            for reply in of_shard:
                if isinstance(reply, (MovedError, ClusterDownError)):
                    self.cluster.learn(reply)
        return replies


Shards = OneServer | ClusterShards


@asynccontextmanager
async def connect_shards(environment: Environment) -> AsyncIterator[Shards]:
    """The shards that the settings name, connected until the end of the block.

    Raises:
        Misconfigured: a setting is missing or wrong.
    """
    urls = settings.REDIS_URL.read(environment)
    count = settings.STREAM_SHARDS.read(environment)
    shards: Shards
    if settings.REDIS_CLUSTER.read(environment):
        shards = ClusterShards(Cluster(urls), count)
    else:
        shards = OneServer(connect_redis(urls), count)
    async with aclosing(shards):
        yield shards


def first_error(replies: Iterable[Any]) -> RedisError | None:
    return next((reply for reply in replies if isinstance(reply, RedisError)), None)


async def _ask_server(
    connection: RedisConnection, commands: Mapping[int, Sequence[Command]]
) -> dict[int, list[Any]]:
    """The replies, without those to ASKING."""
    replies = iter(
        await connection.ask([each for of_shard in commands.values() for each in of_shard])
    )
    return {
        shard: [
            reply for each, reply in zip(of_shard, replies, strict=False) if each is not _ASKING
        ]
        for shard, of_shard in commands.items()
    }


def _with_asking(commands: Sequence[Command]) -> list[Command]:
    """ASKING before each command; only once before a transaction, whose commands inherit it."""
    result: list[Command] = []
    in_transaction = False
    for command in commands:
        if not in_transaction:
            result.append(_ASKING)
        in_transaction = command[0] == "MULTI" or (in_transaction and command[0] != "EXEC")
        result.append(command)
    return result


def _elsewhere(replies: Sequence[Any]) -> AskError | None:
    """The error that says that the shard is elsewhere: then none of its commands was carried out,
    because all of them name keys of one slot.
    """
    return next((reply for reply in replies if isinstance(reply, AskError)), None)
