"""A real Redis Cluster of private servers, for tests and benchmarks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError
from redis.retry import Retry

from contract import keys
from embedded.ports import find_free_port
from embedded.system import eventually
from embedded.valkey import ValkeyServer

_SLOTS = 16384
_PRIMARIES = 3
_CONFIG = {
    "cluster-enabled": "yes",
    # Milliseconds after which a replica takes the place of a silent primary.
    "cluster-node-timeout": "1500",
    "cluster-replica-validity-factor": "0",
    "repl-diskless-sync-delay": "0",
    "repl-ping-replica-period": "1",
    "appendfsync": "always",
}

T = TypeVar("T")


class Cluster:
    """Three primaries, each with a replica unless `replicas` is False."""

    def __init__(
        self,
        folder: Path,
        *,
        replicas: bool = True,
        binary: Path | None = None,
        config: Mapping[str, str] | None = None,
    ) -> None:
        count = _PRIMARIES * (2 if replicas else 1)
        self.is_embedded = binary is None
        self.servers = [
            ValkeyServer(
                folder / f"node-{number}",
                binary=binary,
                config={**_CONFIG, **(config or {}), "cluster-port": str(find_free_port())},
            )
            for number in range(count)
        ]

    @property
    def url(self) -> str:
        """REDIS_URL, with every node, because any of them may be down."""
        return ",".join(f"redis://127.0.0.1:{server.port}" for server in self.servers)

    def __enter__(self) -> Self:
        try:
            self._at_once(ValkeyServer.start)
        except BaseException:
            self._at_once(ValkeyServer.kill)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._at_once(ValkeyServer.kill)

    def _at_once(self, do: Callable[[ValkeyServer], object]) -> None:
        with ThreadPoolExecutor(len(self.servers)) as threads:
            list(threads.map(do, self.servers))

    async def form(self) -> None:
        """Makes one cluster of the servers, and waits until it works."""
        clients = [self.client(server) for server in self.servers]
        primaries, replicas = clients[:_PRIMARIES], clients[_PRIMARIES:]
        for number, client in enumerate(primaries):
            first, after = (_SLOTS * n // _PRIMARIES for n in (number, number + 1))
            _do(client, "CLUSTER ADDSLOTSRANGE", first, after - 1)
        for number, client in enumerate(clients):
            _do(client, "CLUSTER SET-CONFIG-EPOCH", number + 1)
        for server in self.servers[1:]:
            bus_port = server.config["cluster-port"]
            _do(clients[0], "CLUSTER MEET", "127.0.0.1", server.port, bus_port)

        await self._eventually(_known_nodes, lambda counts: set(counts) == {len(clients)})
        for primary, replica in zip(primaries, replicas, strict=False):
            _do(replica, "CLUSTER REPLICATE", _id(primary))
        await self._eventually(_serves)
        for server in self.servers[_PRIMARIES:]:
            await self.follows(server)
        # All agree on the owners of the slots.
        owners = tuple(server.port for server in self.servers[:_PRIMARIES])
        await self._eventually(_primary_ports, lambda views: set(views) == {owners})

    def client(self, server: ValkeyServer) -> Redis:
        """A client of one node. It follows no redirection."""
        return Redis(
            port=server.port,
            socket_timeout=5,
            socket_connect_timeout=2,
            retry=Retry(NoBackoff(), 0),
        )

    def admit(self, server: ValkeyServer, name: str, rules: Sequence[str]) -> None:
        """Makes an account on one node. `rules` are words of an ACL file."""
        _do(self.client(server), "ACL SETUSER", name, *rules)

    def primary_of(self, key: str) -> ValkeyServer:
        """The node that has a key's slot, according to most of the running nodes."""
        views = [
            port
            for server in self.servers
            if server.is_running and (port := self._owner(server, key)) is not None
        ]
        port = max(set(views), key=views.count)
        return next(server for server in self.servers if server.port == port)

    async def fails_over(self, lost: ValkeyServer) -> None:
        """Waits until the cluster works without a node that was killed or frozen."""
        living = [s for s in self.servers if s is not lost and s.is_running]

        def without(views: list[tuple[int, ...] | None]) -> bool:
            return all(view is not None and lost.port not in view for view in views)

        await self._eventually(_primary_ports, without, living)
        await self._eventually(_serves, all, living)

    async def follows(self, server: ValkeyServer) -> None:
        """Waits until a node is a complete replica."""
        await self._eventually(_follows, all, [server])

    def move(self, key: str, target: ValkeyServer) -> None:
        """Moves a key's slot with its keys to another primary."""
        with self.moving(key, target):
            pass

    @contextmanager
    def moving(self, key: str, target: ValkeyServer) -> Iterator[None]:
        """As `move`. In the block the keys have been moved, and the slot has not."""
        slot = key_slot(key.encode())
        source, destination = self.client(self.primary_of(key)), self.client(target)
        target_id = _id(destination)
        _do(destination, "CLUSTER SETSLOT", slot, "IMPORTING", _id(source))
        _do(source, "CLUSTER SETSLOT", slot, "MIGRATING", target_id)
        while found := _do(source, "CLUSTER GETKEYSINSLOT", slot, 10):
            _do(source, *("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *found))
        yield
        for client in (destination, source):
            _do(client, "CLUSTER SETSLOT", slot, "NODE", target_id)

    def _owner(self, server: ValkeyServer, key: str) -> int | None:
        slot = key_slot(key.encode())
        found: Any = self._try(server, _slots) or []
        return next((int(at[2][1]) for at in found if at[0] <= slot <= at[1]), None)

    async def _eventually(
        self,
        look: Callable[[Redis], T],
        holds: Callable[[list[T | None]], bool] = all,
        servers: Sequence[ValkeyServer] | None = None,
    ) -> None:
        """Waits until what `look` returns on these servers (None: on all) fulfils `holds`. Of a
        server where it fails it is None.
        """

        async def views() -> list[T | None]:
            return [self._try(server, look) for server in servers or self.servers]

        await eventually(views, holds)

    def _try(self, server: ValkeyServer, look: Callable[[Redis], T]) -> T | None:
        try:
            return look(self.client(server))
        except RedisError:
            return None


def shards_of(cluster: Cluster, server: ValkeyServer, shards: int = 8) -> list[int]:
    """The shards whose streams are on a node."""
    return [n for n in range(shards) if cluster.primary_of(keys.stream(n)) is server]


def _slots(client: Redis) -> list[Any]:
    # Unparsed, because the library's result does not show which node is the primary.
    client.set_response_callback("CLUSTER SLOTS", lambda reply, **_: reply)
    found: list[Any] = _do(client, "CLUSTER SLOTS")
    return found


def _primary_ports(client: Redis) -> tuple[int, ...]:
    return tuple(dict.fromkeys(int(at[2][1]) for at in sorted(_slots(client))))


def _known_nodes(client: Redis) -> int:
    return int(_about(client)["cluster_known_nodes"])


def _serves(client: Redis) -> bool:
    return bool(_about(client)["cluster_state"] == "ok")


def _follows(client: Redis) -> bool:
    info: Any = client.info("replication")
    return bool(info["role"] == "slave" and info["master_link_status"] == "up")


def _about(client: Redis) -> dict[str, str]:
    reply: Any = _do(client, "CLUSTER INFO")
    return dict(reply)


def _id(client: Redis) -> str:
    reply: Any = _do(client, "CLUSTER MYID")
    return reply.decode() if isinstance(reply, bytes) else str(reply)


def _do(client: Redis, *words: object) -> Any:
    return client.execute_command(*words)  # type: ignore[no-untyped-call]  # the library has no types here
