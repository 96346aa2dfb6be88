"""Appends a record to its stream, and calls back when it is durable."""

from collector.buffer.cluster_writer import ClusterWriter
from collector.buffer.node_writer import NodeWriter
from collector.buffer.pending import OnResult
from contract import keys
from contract.errors import Retry

Writer = NodeWriter | ClusterWriter


class Appender:
    """Appends records to the stream shards. Run `run` as a task while it is in use."""

    def __init__(self, writer: Writer, shards: int) -> None:
        """`shards`: the number of streams."""
        self._writer = writer
        self._shards = shards
        self._held: Retry | None = None

    def hold(self, why: Retry | None) -> None:
        """Refuses every record from now on, with this error; None: accepts them again."""
        self._held = why

    def append(self, identity: bytes, record: bytes, on_result: OnResult) -> None:
        """As `NodeWriter.write`, to the shard that `identity` (16 bytes) chooses.

        Raises:
            Retry: too many records are pending, or `hold` refuses them.
        """
        if self._held is not None:
            raise Retry(self._held.reason, str(self._held))
        self._writer.write(record, keys.shard_of(identity, self._shards), on_result)

    @property
    def failing_since(self) -> float | None:
        """Since when, in the loop's time, no write has succeeded; None if the last one did."""
        return self._writer.failing_since

    @property
    def idle(self) -> bool:
        """Whether no record is pending."""
        return self._writer.idle

    async def run(self) -> None:
        await self._writer.run()
