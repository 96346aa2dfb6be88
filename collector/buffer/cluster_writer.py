"""Writes to the primaries of a Redis Cluster: one `NodeWriter` for each.

A failed record is sent again to its shard's new primary, within the same `WAIT_SECONDS`. It may be
appended twice, but the session's id makes it count once.
"""

import asyncio
from functools import partial

from redis.exceptions import AskError, MovedError, RedisError

from collector.buffer.durability import Durability
from collector.buffer.node_writer import WRITTEN_AGAIN, NodeWriter
from collector.buffer.pending import OnResult, PendingRecord
from contract import keys
from contract.collector_metrics import CollectorMetrics
from runtime.cluster import Cluster, slot_of
from runtime.periodic import Outage, repeat
from runtime.redis_client import Address, is_passing, retry_for
from runtime.redis_connection import RedisConnection
from runtime.stopping import Stopping

_FOLLOW_SECONDS = 0.05
# If a write takes longer, the cluster's map is read again: a frozen primary gives no error.
_SLOW_SECONDS = 1.0


class ClusterWriter:
    """Sends each shard's records to its primary. Run `run` as a task, like `NodeWriter`'s."""

    def __init__(
        self, cluster: Cluster, shards: int, metrics: CollectorMetrics, durability: Durability
    ) -> None:
        """`shards` is their number."""
        self._cluster = cluster
        self._slots = [slot_of(keys.stream(shard)) for shard in range(shards)]
        self._metrics = metrics
        self._durability = durability
        self._tasks: dict[NodeWriter, asyncio.Task[None]] = {}
        self._writers: dict[Address, NodeWriter] = {}
        self._asked: set[Address] = set()  # nodes to which slots are moving
        self._outage = Outage(WRITTEN_AGAIN)
        # It never writes. It keeps records whose shard's primary is unknown.
        self._unplaced = NodeWriter(_nowhere, metrics, outage=self._outage)
        self._of_shard = [self._unplaced] * shards
        self._group = asyncio.TaskGroup()

    def write(self, record: bytes, shard: int, on_result: OnResult) -> None:
        """As `NodeWriter.write`."""
        self._of_shard[shard].write(record, shard, on_result)

    @property
    def failing_since(self) -> float | None:
        """None if the last write succeeded on any of the nodes."""
        since = [writer.failing_since for writer in {*self._of_shard}]
        return None if None in since else min(filter(None, since), default=None)

    @property
    def idle(self) -> bool:
        return self._unplaced.idle and all(writer.idle for writer in self._tasks)

    async def run(self) -> None:
        """Writes pending records, and follows the shards, until cancelled."""
        async with self._group as tasks:
            tasks.create_task(repeat(self._follow, Stopping(), _FOLLOW_SECONDS))

    async def _follow(self) -> None:
        """Gives each shard the writer of its primary, and these writers the unplaced records."""
        try:
            await self._cluster.refresh()
        except RedisError as error:
            self._unplaced.fails(retry_for(error, "looking for the shards"))
        await self._unplaced.refuse_overdue()
        owners = [self._cluster.owner(slot) for slot in self._slots]
        self._of_shard = [
            self._unplaced if owner is None else self._writer(owner) for owner in owners
        ]
        if self._unplaced not in self._of_shard:
            self._unplaced.works()
        self._asked = {node for node in self._asked if not self._writers[node].idle}
        for node in set(self._writers) - set(owners) - self._asked:
            self._retire(self._writers.pop(node))
        for pending in reversed(self._unplaced.take_all()):
            self._of_shard[pending.shard].put_first([pending])
        if any(writer.is_slow(_SLOW_SECONDS) for writer in self._tasks):
            self._cluster.doubt()

    def _writer(self, node: Address) -> NodeWriter:
        writer = self._writers.get(node)
        if writer is None:
            writer = self._writers[node] = NodeWriter(
                partial(RedisConnection, self._cluster.client(node)),
                self._metrics,
                self._durability,
                self._redirect,
                self._outage,
            )
            self._tasks[writer] = self._group.create_task(writer.run())
        return writer

    def _retire(self, writer: NodeWriter) -> None:
        self._unplaced.put_first(writer.take_all())
        writer.works()
        self._tasks.pop(writer).cancel()

    def _redirect(self, failed: list[PendingRecord], error: RedisError) -> list[PendingRecord]:
        self._cluster.learn(error)
        if isinstance(error, AskError) and not isinstance(error, MovedError):
            # The slot is moving, and the new node already has the stream.
            node = Address(error.host, int(error.port))
            self._asked.add(node)
            for pending in failed:
                pending.asking = True
            self._writer(node).put_first(failed)
        elif isinstance(error, AskError) or is_passing(error):
            self._unplaced.put_first(failed)
        else:
            return failed
        return []


def _nowhere() -> RedisConnection:
    raise RuntimeError("this writer must not run")
