"""Which node of a Redis Cluster has which slot, and clients of the nodes.

Why this is not redis-py's RedisCluster: docs/decisions/0007-redis-cluster.md.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final
from urllib.parse import SplitResult, urlsplit

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from contract.errors import Misconfigured
from contract.settings import REDIS_URL
from runtime.redis_client import Address, OnUvloop, connect_peer, connect_redis
from runtime.redis_connection import RedisConnection

SLOTS: Final = 16384
_ASKED_AT_ONCE = 3
_LEAST_SECONDS = 0.2
# The greatest age of the map: if a primary hangs, there is no error to learn from.
_MOST_SECONDS = 5.0
_ANSWER_SECONDS = 1.5
_EXAMPLE = f"{REDIS_URL.name}=redis://node-1:6379,redis://node-2:6379"


@lru_cache(maxsize=4096)
def slot_of(key: str) -> int:
    return int(key_slot(key.encode()))


class Cluster:
    """The cluster's map of slots, as its nodes report it, and a client of each node."""

    def __init__(self, urls: str) -> None:
        """`urls`: of nodes, comma-separated; some of the nodes may be away. Credentials and
        encryption come from the first; the others may be only `host:port`.

        Raises:
            Misconfigured: one of them is not a node's URL.
        """
        self._url, self._known = _read_urls(urls)
        self._owners: list[Address | None] = [None] * SLOTS
        self._clients: dict[Address, Redis] = {}
        self._connections: dict[Address, RedisConnection] = {}
        self._refreshed_at = -_MOST_SECONDS
        self._doubted = True
        self._refreshing: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Asks for the map again if it is doubtful, but not too often.

        Raises:
            RedisError: there is no map, and no node answers.
        """
        age = time.monotonic() - self._refreshed_at
        if age < _LEAST_SECONDS or not (self._doubted or age > _MOST_SECONDS):
            return
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
        try:
            # A caller that is cancelled must not cancel the query of the others.
            await asyncio.shield(self._refreshing)
        except RedisError:
            if not any(self._owners):
                raise

    def owner(self, slot: int) -> Address | None:
        """The primary that has a slot, if it is known."""
        return self._owners[slot]

    def doubt(self) -> None:
        """Marks the map as doubtful, because a node does not answer or refuses."""
        self._doubted = True

    def learn(self, error: RedisError) -> None:
        """Learns from a node's error where a slot is."""
        self._doubted = True
        if isinstance(error, MovedError):
            self._owners[error.slot_id] = Address(error.host, int(error.port))

    def client(self, node: Address) -> Redis:
        """A node's client; this object closes it."""
        if node not in self._clients:
            self._clients[node] = connect_peer(self._url, *node)
        return self._clients[node]

    def connection(self, node: Address) -> RedisConnection:
        """A connection to a node, for frequent commands; this object closes it."""
        if node not in self._connections:
            self._connections[node] = RedisConnection(self.client(node))
        return self._connections[node]

    def following(self, key: str) -> Redis:
        """A client that always connects to the node of a key's slot; the caller closes it. Only
        encryption and credentials come from the URL.
        """
        slot = {"cluster": self, "slot": slot_of(key)}
        return connect_redis(self._url, kind=type("Following", (_Following,), slot))

    def connect_to(self, host: str, port: int) -> Redis:
        """A client of any node; the caller closes it."""
        return connect_peer(self._url, host, port)

    async def aclose(self) -> None:
        if self._refreshing is not None:
            await _cancel([self._refreshing])
        for node in list(self._clients):
            await self._close(node)

    async def _close(self, node: Address) -> None:
        if node in self._connections:
            self._connections.pop(node).close()
        await self._clients.pop(node).aclose()

    async def _refresh(self) -> None:
        """Asks a few nodes and takes the first answer; asks others if none comes in time."""
        left = list(dict.fromkeys([*filter(None, self._owners), *self._known]))
        random.shuffle(left)
        failure: RedisError = RedisConnectionError("no node of the cluster answers in time")
        while left:
            asked, left = left[:_ASKED_AT_ONCE], left[_ASKED_AT_ONCE:]
            asking = [asyncio.create_task(self._ask(node)) for node in asked]
            try:
                for answer in asyncio.as_completed(asking, timeout=_ANSWER_SECONDS):
                    try:
                        owners, nodes = await answer
                    except RedisError as error:
                        failure = error
                        continue
                    await self._take(owners, nodes)
                    return
            except TimeoutError:
                pass
            finally:
                await _cancel(asking)
        self._refreshed_at = time.monotonic()
        raise failure

    async def _take(self, owners: list[Address | None], nodes: list[Address]) -> None:
        self._owners, self._known = owners, nodes
        self._doubted = False
        self._refreshed_at = time.monotonic()
        for gone in set(self._clients) - set(nodes):
            await self._close(gone)

    async def _ask(self, node: Address) -> tuple[list[Address | None], list[Address]]:
        """Each slot's primary, and all nodes, according to one node. RedisError: it can't say."""
        connection = RedisConnection(connect_peer(self._url, *node))
        try:
            (reply,) = await connection.ask([("CLUSTER", "SLOTS")])
        finally:
            connection.close()
        if isinstance(reply, RedisError):
            raise reply
        if not reply:
            raise RedisConnectionError("the node knows of no slots")
        return _read_slots(reply, node.host)


class _Following(OnUvloop):
    """A connection to the node that has a slot. It is closed if that changes."""

    cluster: ClassVar[Cluster]
    slot: ClassVar[int]
    host: str
    port: int

    async def connect_check_health(self, *arguments: Any, **options: Any) -> None:
        if self.is_connected and self.cluster.owner(self.slot) != (self.host, self.port):
            await self.disconnect(nowait=True)
        try:
            if not self.is_connected:
                await self.cluster.refresh()
                owner = self.cluster.owner(self.slot)
                if owner is None:
                    raise RedisConnectionError("no node has the slot")
                self.host, self.port = owner
            await super().connect_check_health(*arguments, **options)
        except RedisError:
            self.cluster.doubt()
            raise

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*arguments, **options)
        except (AskError, ClusterDownError, RedisConnectionError, RedisTimeoutError) as error:
            self.cluster.learn(error)
            await self.disconnect(nowait=True)
            raise RedisConnectionError("another server has the key, or none") from error


def server_name(redis: Redis) -> str:
    """The address of a client's server, for people."""
    pool = redis.connection_pool
    if issubclass(pool.connection_class, _Following):
        owner = pool.connection_class.cluster.owner(pool.connection_class.slot)
        return "unknown" if owner is None else str(owner)
    options = pool.connection_kwargs
    return options.get("path") or str(Address(options["host"], options["port"]))


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _read_slots(
    reply: Sequence[Sequence[Any]], asked_host: str
) -> tuple[list[Address | None], list[Address]]:
    """From CLUSTER SLOTS: each slot's primary, and all nodes, primaries first."""
    owners: list[Address | None] = [None] * SLOTS
    primaries, replicas = [], []
    for first, last, *nodes in reply:
        addresses = [
            # A node that does not know its own address sends none; `?` is a node without a name.
            Address(node[0].decode() if node[0] else asked_host, int(node[1]))
            for node in nodes
            if node[0] != b"?"
        ]
        if not addresses:
            continue
        owners[first : last + 1] = [addresses[0]] * (last + 1 - first)
        primaries.append(addresses[0])
        replicas += addresses[1:]
    return owners, list(dict.fromkeys(primaries + replicas))


def _read_urls(urls: str) -> tuple[str, list[Address]]:
    """The URL of the first node, and the addresses of all."""
    nodes = [part.strip() for part in urls.split(",") if part.strip()]
    scheme = nodes[0].partition(":")[0]
    try:
        split = [urlsplit(node if "://" in node else f"{scheme}://{node}") for node in nodes]
        addresses = [Address(each.hostname or "", each.port or 6379) for each in split]
    except ValueError:
        split, addresses = [], []
    if scheme == "unix":
        problem = "nodes of a cluster can't be reached by a Unix socket"
    elif not addresses or not all(each.host for each in addresses):
        problem = "a node has no valid URL"
    elif any(each.path.strip("/") not in ("", "0") for each in split):
        problem = "a cluster has only database 0"
    elif any(_is_another_way(each, split[0]) for each in split):
        problem = "a later node has another scheme, password or option than the first"
    else:
        return nodes[0], addresses
    raise Misconfigured(REDIS_URL.name, problem, _EXAMPLE)


def _is_another_way(node: SplitResult, first: SplitResult) -> bool:
    """Whether a node's URL says how to connect, and otherwise than the first, which decides."""
    user = node.netloc.rpartition("@")[0]
    return (
        node.scheme != first.scheme
        or user not in ("", first.netloc.rpartition("@")[0])
        or node.query not in ("", first.query)
    )
